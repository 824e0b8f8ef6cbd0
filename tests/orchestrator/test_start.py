"""POST /live-video-to-video: the order of the checks, the words, and who gets the job."""

from __future__ import annotations

import asyncio
import io
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from relay.errors import PeerRefused, Unavailable
from relay.orchestrator import jobs as jobs_module
from relay.orchestrator import rest
from relay.protocols.trickle.server import TrickleServer
from relay.rpc.capabilities import Capabilities, ModelConstraint
from relay.rpc.payment_result import PaymentResult
from relay.rpc.runner import RunnerStatus
from relay.rpc.seg_data import SegData
from tests.network import eventually
from tests.orchestrator.doubles import (
    ALL,
    GONE,
    MODEL,
    Desk,
    RunnerDouble,
    desk,
    hanging,
    refusing,
    sold,
)
from tests.rpc.captured import captured

BODY = (
    '{"model_id": "ident", "params": {"n": 1}, "gateway_request_id": "0badcafe", "stream_id": "s1"}'
)


async def post(
    one: Desk,
    body: str | bytes | io.BytesIO = BODY,
    path: str = "/live-video-to-video",
    **headers: str,
) -> tuple[int, str, str]:
    """Status, content type and text of an answer."""
    async with one.session.post(one.url + path, data=body, headers=headers, ssl=False) as response:
        return response.status, response.content_type, await response.text(errors="replace")


async def segment(one: Desk) -> str:
    """A segment header with nothing but the token, as the network's SDK sends it."""
    return SegData(auth_token=await one.token()).to_header()


async def test_the_job_reaches_the_runner_as_a_stock_node_hands_it_on(tmp_path: Path) -> None:
    async with (
        RunnerDouble(token="secret").running() as runner,
        desk(tmp_path, sold(runner, token="secret")) as one,
    ):
        status, kind, text = await post(one, **{"Livepeer-Segment": await segment(one)})
        assert (status, kind) == (200, "application/json")
        answer = json.loads(text)
        mid = answer["manifest_id"]
        base = f"{one.url}/ai/trickle/{mid}"
        assert answer == {
            "publish_url": base,
            "subscribe_url": f"{base}-out",
            "control_url": f"{base}-control",
            "events_url": f"{base}-events",
            "manifest_id": mid,
        }
        assert len(mid) == 32
        (start,) = runner.starts
        assert (start.subscribe_url, start.publish_url) == (base, f"{base}-out")
        assert (start.control_url, start.events_url) == (f"{base}-control", f"{base}-events")
        assert (start.model_id, start.params, start.manifest_id) == (MODEL, {"n": 1}, mid)
        assert (start.gateway_request_id, start.stream_id) == ("0badcafe", "s1")


async def test_a_stock_gateways_recorded_body_and_header_start_a_job(tmp_path: Path) -> None:
    recorded = SegData.parse(captured("live-job/stock-gateway.job.livepeer-segment.bin"))
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        assert recorded.capabilities is not None
        header = SegData.for_job("ident", await one.token(), recorded.capabilities).to_header()
        body = captured("live-job/stock-gateway.job.body.json")
        status, _, _ = await post(
            one,
            body,
            **{
                "Content-Type": "application/json",
                "Livepeer-Segment": header,
                "Livepeer-Payment": "",
                "Authorization": "Livepeer-AI-Worker-1.0",
            },
        )
        assert status == 200
        assert runner.starts[0].params == {}


async def test_the_channels_are_there_with_their_content_types(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start()
        assert await one.channels_of(job) == ALL
        for url, kind in (
            (job.publish_url, "video/mp2t"),
            (job.subscribe_url, "video/mp2t"),
            (job.control_url, "application/json"),
            (job.events_url, "application/json"),
        ):
            async with one.session.post(f"{url}/0", data=b"x") as response:
                assert response.status == 200
            async with one.session.get(f"{url}/0") as response:
                assert response.content_type.lower() == kind


async def test_runners_may_be_told_another_address_of_trickle(tmp_path: Path) -> None:
    async with (
        RunnerDouble().running() as runner,
        desk(tmp_path, sold(runner), runner_trickle_url="http://10.0.0.1:99") as one,
    ):
        job = await one.start()
        (start,) = runner.starts
        assert start.publish_url == f"http://10.0.0.1:99/ai/trickle/{job.manifest_id}-out"
        assert job.publish_url == f"{one.url}/ai/trickle/{job.manifest_id}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{nope", "not JSON"),
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "model_id is required"),
        ('{"model_id": "ident", "params": [1]}', "params"),
    ],
)
async def test_a_body_that_is_no_job_is_400_before_anything_else(
    tmp_path: Path, body: str, words: str
) -> None:
    async with desk(tmp_path, []) as one:
        status, kind, text = await post(one, body)
        assert (status, kind) == (400, "text/plain")
        assert words in text
        assert text.endswith("\n")


async def test_no_capacity_is_503_even_to_those_without_a_token(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        token = {"Livepeer-Segment": await segment(one)}
        assert (await post(one, '{"model_id": "other"}', **token))[::2] == (
            503,
            "insufficient capacity\n",
        )
        await one.start()
        assert await post(one) == (503, "text/plain", "insufficient capacity\n")


async def test_a_payment_that_cannot_be_read_is_402(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        for payment, words in (("%%%", "base64 decode error"), ("/////w==", "protobuf unmarshal")):
            status, _, text = await post(one, **{"Livepeer-Payment": payment})
            assert status == 402
            assert text.startswith(words)
        assert not runner.starts


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (None, "missing auth token"),
        ("", "missing auth token"),
        ("%%%", "ErrorSegEncoding"),
        (b64encode(b"\xff\xff\xff").decode(), "ErrorSegEncoding"),
        (SegData(manifest_id=b"35_ident").to_header(), "missing auth token"),
        (SegData(duration_ms=-1).to_header(), "ErrorSegEncoding"),
        (SegData(duration_ms=300_001).to_header(), "ErrorSegEncoding"),
        (
            SegData.parse(captured("live-job/stock-gateway.job.livepeer-segment.bin")).to_header(),
            "invalid auth token",
        ),
    ],
)
async def test_a_segment_header_that_is_not_ours_is_403(
    tmp_path: Path, header: str | None, words: str
) -> None:
    headers = {} if header is None else {"Livepeer-Segment": header}
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        assert await post(one, **headers) == (403, "text/plain", f"{words}\n")
        assert not runner.starts
        assert (await one.status())["jobs"] == []


async def test_a_token_of_another_process_is_refused(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner:
        async with desk(tmp_path, sold(runner)) as one:
            old = await segment(one)
        async with desk(tmp_path, sold(runner)) as one:
            assert (await post(one, **{"Livepeer-Segment": old}))[0] == 403


async def test_a_wrong_method_and_an_unknown_path_are_told(tmp_path: Path) -> None:
    async with desk(tmp_path, []) as one:
        async with one.session.get(f"{one.url}/live-video-to-video") as response:
            assert response.status == 405
        assert (await post(one, path="/nosuch"))[0] == 404


async def test_a_body_over_the_bound_is_413(tmp_path: Path) -> None:
    async with desk(tmp_path, []) as one:
        body = io.BytesIO(b'{"x": "' + b"x" * (1 << 20) + b'"}')
        assert (await post(one, body))[0] == 413


async def test_params_too_deep_to_hand_on_are_400(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        body = '{"model_id": "ident", "params": {"a": ' + "[" * 500 + "]" * 500 + "}}"
        status, _, _ = await post(one, body, **{"Livepeer-Segment": await segment(one)})
        assert status == 400
        assert (await one.status())["jobs"] == []


# runners that do not take it


@pytest.mark.parametrize("status", [400, 422])
async def test_a_job_that_a_runner_calls_wrong_is_500_with_its_words(
    tmp_path: Path, status: int
) -> None:
    async with (
        RunnerDouble().running() as first,
        RunnerDouble().running() as second,
        desk(tmp_path, sold(first, second)) as one,
    ):
        first.refuse = second.refuse = refusing(status, "no such effect")
        with pytest.raises(PeerRefused) as caught:
            await one.start()
        assert caught.value.code == "orchestrator_bad_request"
        assert f"live-video-to-video container returned {status}: " in str(caught.value)
        assert "no such effect" in str(caught.value)
        assert (await one.ended()) == {"refused": 1}


@pytest.mark.parametrize("status", [500, 401, 503])
async def test_the_next_runner_of_the_model_gets_it(tmp_path: Path, status: int) -> None:
    async with (
        RunnerDouble().running() as first,
        RunnerDouble().running() as second,
        desk(tmp_path, sold(first, second)) as one,
    ):
        first.refuse = refusing(status, "insufficient capacity" if status == 500 else "no")
        job = await one.start()
        assert [start.manifest_id for start in second.starts] == [job.manifest_id]
        assert (await one.status())["runners"][0]["free"] == 1


async def test_a_runner_that_does_not_answer_is_left_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "ATTEMPT", 0.1)
    async with (
        RunnerDouble().running() as first,
        RunnerDouble().running() as second,
        desk(tmp_path, sold(first, second)) as one,
    ):
        first.refuse = hanging()
        await one.start()
        assert len(second.starts) == 1


async def test_when_nobody_takes_it_the_answer_is_503_with_the_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "START_BUDGET", 0.3)
    async with (
        RunnerDouble().running() as first,
        RunnerDouble().running() as second,
        desk(tmp_path, sold(first, second)) as one,
    ):
        first.refuse, second.refuse = refusing(500, "it broke"), hanging()
        with pytest.raises(PeerRefused) as caught:
            await one.start()
        assert caught.value.code == "orchestrator_capped"
        words = str(caught.value)
        assert "insufficient capacity" in words
        assert "container returned 500: it broke" in words
        assert "in time" in words
        assert first.url not in words
        assert (await one.status())["jobs"] == []


async def test_a_runner_that_is_gone_tells_nothing_of_its_address(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner:
        async with desk(tmp_path, sold(runner), health_interval=60) as one:
            await runner.close()
            with pytest.raises(PeerRefused) as caught:
                await one.start()
            assert "insufficient capacity" in str(caught.value)
            assert runner.url not in str(caught.value)
        await runner.open()


async def test_a_runner_still_letting_go_of_the_last_job_is_asked_again(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        await one.delete((await one.start()).control_url)
        busy = refusing(500, "insufficient capacity")
        tries = 0

        async def free_at_the_third() -> web.Response:
            nonlocal tries
            tries += 1
            if tries == 2:
                runner.refuse = None
            return await busy()

        runner.refuse = free_at_the_third
        await one.start()
        assert len(runner.starts) == 2


async def test_a_busy_runner_is_not_asked_again(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        runner.refuse = refusing(500, "insufficient capacity")
        for count in (1, 2):
            with pytest.raises(PeerRefused):
                await one.start()
            assert await one.ended() == {"refused": count}


async def test_a_caller_that_leaves_gives_its_place_back(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        runner.refuse = hanging()
        caller = asyncio.create_task(one.start())
        await one.until(lambda status: status["jobs"])
        caller.cancel()
        await asyncio.wait([caller])
        await one.until(lambda status: status["ended"] == {"not_started": 1})
        assert (await one.status())["runners"][0]["free"] == 1


async def test_every_start_has_channels_of_its_own(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner, capacity=5)) as one:
        jobs = [await one.start() for _ in range(5)]
        assert len({job.manifest_id for job in jobs}) == 5
        first, *others = jobs
        await one.delete(first.publish_url)
        assert await one.channels_of(first) == GONE
        for job in others:
            assert await one.channels_of(job) == ALL


async def test_simultaneous_starts_never_exceed_the_capacity(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner, capacity=3)) as one:
        results = await asyncio.gather(*(one.start() for _ in range(8)), return_exceptions=True)
        assert sum(not isinstance(result, BaseException) for result in results) == 3
        assert len(runner.starts) == 3


async def test_slots_of_a_runner_bound_what_its_models_sell(tmp_path: Path) -> None:
    async with RunnerDouble(slots=1).running() as runner:
        models = [
            *sold(runner, capacity=5),
            sold(runner, capacity=5)[0].model_copy(update={"model_id": "b"}),
        ]
        async with desk(tmp_path, models) as one:
            await one.start()
            with pytest.raises(PeerRefused):
                await one.start("b")
            runner.finish()


async def test_no_room_for_channels_is_503_and_takes_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: TrickleServer, name: str, mime: str) -> None:
        if name.endswith("-events"):
            raise Unavailable("Too many channels")
        create(self, name, mime)

    create = TrickleServer.create
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        with monkeypatch.context() as patch:
            patch.setattr(TrickleServer, "create", full)
            with pytest.raises(PeerRefused, match="503"):
                await one.start()
        assert (await one.status())["runners"][0]["free"] == 1
        await one.start()


async def test_a_job_that_ends_as_it_begins_is_no_job(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:

        async def give_up() -> web.Response:
            (job,) = one.node.jobs.running
            await one.delete(f"{one.url}/ai/trickle/{job.channels.events}")
            return web.json_response({})

        runner.refuse = give_up
        with pytest.raises(PeerRefused, match="503"):
            await one.start()
        assert await one.ended() == {"events_closed": 1}


async def test_a_body_that_does_not_come_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "READ_WITHIN", 0.05)
    async with desk(tmp_path, []) as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.node.port)
        writer.write(b"POST /live-video-to-video HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        writer.close()


# payments


async def test_a_payment_is_taken_and_the_token_goes_on(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        token = await one.token()
        segment_header = SegData.for_job(
            "ident", token, Capabilities.live({"ident": ModelConstraint()})
        ).to_header()
        async with one.session.post(
            f"{one.url}/payment",
            headers={"Livepeer-Segment": segment_header, "Livepeer-Payment": ""},
        ) as response:
            assert response.status == 200
            assert response.content_type == "application/octet-stream"
            result = PaymentResult.parse(await response.read())
        theirs = PaymentResult.parse(captured("live-job/stock-orchestrator.payment-result.bin"))
        assert result.info is not None
        assert theirs.info is not None
        assert result.info.auth_token == token
        assert result.info.transcoder == one.url
        assert result.info.address == theirs.info.address
        assert result.info.capabilities is not None
        assert result.info.hardware == ()


async def test_a_payment_without_a_token_is_403(tmp_path: Path) -> None:
    async with desk(tmp_path, []) as one:
        assert (await post(one, b"", "/payment"))[0] == 403
        assert (await post(one, b"", "/payment", **{"Livepeer-Payment": "%"}))[0] == 402


# the small routes


async def _get(one: Desk, path: str) -> tuple[int, Any]:
    async with one.session.get(one.url + path) as response:
        text = await response.text()
        return response.status, json.loads(text) if response.content_type.endswith("json") else text


async def test_the_schema_of_a_model_is_handed_on(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        query = "/relay/schema?pipeline=live-video-to-video&model_id="

        async def found() -> Any:
            status, body = await _get(one, query + MODEL)
            return body if status == 200 else None

        assert await eventually(found) == {
            "model_id": MODEL,
            "pipeline": "live-video-to-video",
            "version": "3",
            "schema": {"type": "object"},
        }
        assert (await _get(one, query + "other"))[0] == 404
        assert (await _get(one, "/relay/schema?pipeline=text-to-image&model_id=ident"))[0] == 400
        assert (await _get(one, "/relay/schema"))[0] == 400


async def test_status_names_no_channel_and_no_address(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start(stream_id="private")
        status = await one.status()
        text = json.dumps(status)
        assert job.manifest_id not in text
        assert runner.url not in text
        assert "private" not in text
        (told,) = status["jobs"]
        assert (told["model_id"], told["state"], told["runner"]) == (MODEL, "running", 0)
        (sold_,) = status["runners"]
        assert (sold_["state"], sold_["capacity"], sold_["free"]) == ("up", 1, 0)


async def test_alive_is_not_ready(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner:
        runner.status = RunnerStatus.LOADING
        async with desk(tmp_path, sold(runner), wait=False) as one:
            assert (await _get(one, "/healthz"))[0] == 200
            status, told = await _get(one, "/readyz")
            assert (status, told["status"]) == (503, "no runner works")
            assert MODEL in told["reason"]
            runner.status = RunnerStatus.IDLE
            await one.until_up()
            assert await _get(one, "/readyz") == (200, {"status": "ready"})
