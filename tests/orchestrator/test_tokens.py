"""With tokens asked for, each side of a job does its part with its own, and nobody else any."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from relay.orchestrator import jobs as jobs_module
from relay.protocols.trickle.publisher import TricklePublisher, send_whole
from relay.protocols.trickle.subscriber import TrickleSubscriber
from relay.rpc.live_job import LiveJobAnswer
from relay.rpc.runner import RunnerStart
from relay.rpc.trickle_token import token_header
from tests.orchestrator.doubles import MODEL, Desk, RunnerDouble, desk, refusing, sold

TOKENS: Final = {"trickle_tokens": True}
CHANNELS: Final = ("input", "output", "control", "events")


def seen_by(side: LiveJobAnswer | RunnerStart, channel: str) -> str:
    names = {"input": "publish_url", "output": "subscribe_url"}
    if isinstance(side, RunnerStart):
        names = {"input": "subscribe_url", "output": "publish_url"}
    return str(getattr(side, names.get(channel, f"{channel}_url")))


async def ask(one: Desk, method: str, url: str, token: str, body: bytes | None = None) -> int:
    headers = token_header(token)
    async with one.session.request(method, url, data=body, headers=headers, ssl=False) as response:
        await response.read()
        return response.status


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("channel", CHANNELS)
async def test_each_side_does_its_part_with_its_token(
    tmp_path: Path, channel: str, separate: bool
) -> None:
    settings = {**TOKENS, "separate_names": separate}
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner), **settings) as one:
        job = await one.start()
        (start,) = runner.starts
        assert len(job.trickle_token) == len(start.trickle_token) == 43
        assert job.trickle_token != start.trickle_token
        gateway = (seen_by(job, channel), job.trickle_token)
        worker = (seen_by(start, channel), start.trickle_token)
        writer, reader = (gateway, worker) if channel in ("input", "control") else (worker, gateway)

        assert await ask(one, "POST", f"{reader[0]}/0", reader[1], b"x") == 403
        assert await ask(one, "DELETE", f"{reader[0]}/0", reader[1]) == 403
        assert await ask(one, "DELETE", *reader) == 403
        assert await ask(one, "POST", f"{writer[0]}/0", writer[1], b"x") == 200
        assert await ask(one, "GET", f"{writer[0]}/0", writer[1]) == 403
        assert await ask(one, "GET", f"{reader[0]}/0", reader[1]) == 200
        assert await ask(one, "GET", f"{writer[0]}/next", writer[1]) == 200
        assert await ask(one, "GET", f"{reader[0]}/next", reader[1]) == 200
        for method, path in (("GET", "/0"), ("GET", "/next"), ("POST", "/1"), ("DELETE", "")):
            assert await ask(one, method, f"{writer[0]}{path}", "") == 401
        assert await ask(one, "DELETE", *writer) == 200


async def test_one_jobs_token_opens_no_other_job(tmp_path: Path) -> None:
    async with (
        RunnerDouble(slots=2).running() as runner,
        desk(tmp_path, sold(runner, capacity=2), **TOKENS) as one,
    ):
        first, second = await one.start(), await one.start()
        tokens = [job.trickle_token for job in (first, second)]
        tokens += [start.trickle_token for start in runner.starts]
        assert len(set(tokens)) == 4
        for channel in CHANNELS:
            url = seen_by(second, channel)
            for token in (first.trickle_token, runner.starts[0].trickle_token):
                for method, path in (
                    ("GET", "/0"),
                    ("GET", "/next"),
                    ("POST", "/0"),
                    ("DELETE", ""),
                ):
                    assert await ask(one, method, url + path, token) == 403
        # Nor does it tell whether there is one.
        absent = f"{one.url}/ai/trickle/0123456789abcdef"
        assert await ask(one, "GET", f"{absent}/0", first.trickle_token) == 403
        assert await ask(one, "GET", f"{absent}/0", "") == 401
        assert len((await one.status())["jobs"]) == 2


async def test_a_job_with_tokens_goes_through_its_life(tmp_path: Path) -> None:
    async with (
        RunnerDouble().running() as runner,
        desk(tmp_path, sold(runner), tls=True, **TOKENS) as one,
    ):
        job = await one.start()
        (start,) = runner.starts
        ours, theirs = token_header(job.trickle_token), token_header(start.trickle_token)
        control = TricklePublisher(one.session, job.control_url, ssl=False, headers=ours)
        heard = TrickleSubscriber(
            one.session, start.control_url, start=0, ssl=False, headers=theirs
        )
        await send_whole(control, b"{}")
        assert await (await anext(heard)).read(10) == b"{}"
        await control.close()
        # The other side is told of the end as ever: by the end, not by a refusal.
        with pytest.raises(StopAsyncIteration):
            await anext(heard)
        await one.until(lambda status: status["ended"] == {"control_closed": 1})
        assert await ask(one, "POST", f"{start.publish_url}/0", start.trickle_token, b"x") == 404


async def refused_as_stock(one: Desk, url: str) -> None:
    """A stock peer finds a channel with a name that it was told, and no token."""
    assert await ask(one, "GET", f"{url}/-1", "") == 401


@pytest.mark.parametrize("stock", ["gateway", "runner"])
async def test_the_job_of_a_peer_that_knows_no_tokens_ends_with_that_reason(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    stock: str,
) -> None:
    monkeypatch.setattr(jobs_module, "TOKENLESS", 0.2)
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner), **TOKENS) as one:
        with caplog.at_level(logging.DEBUG):
            job = await one.start()
            (start,) = runner.starts
            if stock == "gateway":
                await ask(one, "GET", f"{start.control_url}/next", start.trickle_token)
                await refused_as_stock(one, job.subscribe_url)
            else:
                await ask(one, "POST", f"{job.control_url}/0", job.trickle_token, b"{}")
                await refused_as_stock(one, start.subscribe_url)
            await one.until(lambda status: status["ended"] == {"no_token": 1})
            told = str(await one.status())
        said = [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING]
        assert f"no trickle token came from the {stock}: trickle_tokens asks" in " ".join(said)
        for token in (job.trickle_token, start.trickle_token):
            assert token not in caplog.text
            assert token not in told


async def test_who_knows_a_name_cannot_end_a_job_by_asking_without_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "TOKENLESS", 0.0)
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner), **TOKENS) as one:
        job = await one.start()
        (start,) = runner.starts
        assert await ask(one, "POST", f"{job.publish_url}/0", job.trickle_token, b"x") == 200
        assert await ask(one, "GET", f"{start.subscribe_url}/0", start.trickle_token) == 200
        for channel in CHANNELS:
            assert await ask(one, "GET", f"{seen_by(job, channel)}/0", "") == 401
            assert await ask(one, "DELETE", seen_by(job, channel), "") == 401
        one.node.jobs.sweep(time.monotonic() + 5)
        assert [each["job"] for each in (await one.status())["jobs"]] == [1]


async def test_without_the_setting_the_wire_is_a_stock_nodes(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start()
        assert job.trickle_token == runner.starts[0].trickle_token == ""
        assert b"token" not in job.serialise() + runner.starts[0].serialise()
        assert await ask(one, "POST", f"{job.publish_url}/0", "", b"x") == 200


async def test_a_runner_that_quotes_its_order_gives_no_token_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner), **TOKENS) as one:
        parts: list[str] = []

        async def quoting() -> aiohttp.web.Response:
            (job,) = one.node.jobs.running
            assert job.passes is not None
            parts.append(job.passes[1].token)
            return await refusing(400, f"no good: {job.passes[1].token[:30]}")()

        runner.refuse = quoting
        with caplog.at_level(logging.DEBUG), pytest.raises(Exception, match="no good") as refusal:
            await one.start(MODEL)
        assert parts[0][:8] not in str(refusal.value)
        assert parts[0][:8] not in caplog.text
