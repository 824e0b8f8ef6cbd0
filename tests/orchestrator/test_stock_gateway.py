"""What a stock gateway, and the network's Python SDK, need of an orchestrator: the list of
live-AI gotchas, each by its number (O1 to O28), over TLS and over plain text.

Those that are a worker's (O16, O18, O24, O27) are held in tests/worker/test_stock.py.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from relay.orchestrator import jobs as jobs_module
from relay.rpc.capabilities import LIVE_VIDEO_TO_VIDEO, Capabilities, ModelConstraint
from relay.rpc.end_session import EndSessionRequest
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.orchestrator_request import NO_ADDRESS, OrchestratorRequest
from relay.rpc.payment_result import PaymentResult
from relay.rpc.ping import PingPong
from relay.rpc.runner import RunnerStatus
from relay.rpc.seg_data import SegData
from tests.orchestrator.doubles import (
    GONE,
    MODEL,
    Desk,
    RunnerDouble,
    desk,
    hanging,
    refusing,
    sold,
)
from tests.orchestrator.foreigners import Answer, grpcio, http11, leaf_of, name_in
from tests.rpc.captured import captured

DEFAULTS = {*range(13), 14, 26, 35}
GATEWAYS_REQUEST = "get-orchestrator/stock-gateway-asks.tls.request.bin"
SDKS_REQUEST = "get-orchestrator/stock-orchestrator.like-python-sdk.request.bin"


@pytest.fixture(params=["tls", "plain"])
async def one(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Desk]:
    async with (
        RunnerDouble().running() as runner,
        desk(tmp_path, sold(runner, capacity=2), tls=request.param == "tls") as one,
    ):
        one.runner = runner  # type: ignore[attr-defined]
        yield one


def runner_of(one: Desk) -> RunnerDouble:
    runner: RunnerDouble = one.runner  # type: ignore[attr-defined]
    return runner


async def info_of(one: Desk, request: bytes | None = None) -> OrchestratorInfo:
    message = captured(GATEWAYS_REQUEST) if request is None else request
    return OrchestratorInfo.parse(await grpcio(one, "GetOrchestrator", message))


async def headers_of(one: Desk, manifest_id: str = f"35_{MODEL}") -> dict[str, str]:
    """What the stock gateway sends with a job, with a token of ours."""
    token = await one.token()
    theirs = SegData.parse(captured("live-job/stock-gateway.job.livepeer-segment.bin"))
    assert theirs.capabilities is not None
    segment = SegData.for_job(MODEL, token, theirs.capabilities)
    if manifest_id != f"35_{MODEL}":
        segment = SegData(
            manifest_id=manifest_id.encode(),
            auth_token=token,
            capabilities=theirs.capabilities,
        )
    return {
        "Content-Type": "application/json",
        "Authorization": "Livepeer-AI-Worker-1.0",
        "Livepeer-Payment": "",
        "Livepeer-Segment": segment.to_header(),
        "Accept-Encoding": "gzip",
        "User-Agent": "Go-http-client/1.1",
    }


async def start(
    one: Desk, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Answer:
    if body is None:
        body = captured("live-job/stock-gateway.job.body.json")
    return await http11(
        one.url, "POST", "/live-video-to-video", body, {**await headers_of(one), **(headers or {})}
    )


# the port


async def test_o1_o2_grpc_and_http11_share_the_port_whatever_was_negotiated(one: Desk) -> None:
    assert (await info_of(one)).transcoder == one.url
    for alpn in (None, ["http/1.1"], ["h2", "http/1.1"]):
        answer = await http11(one.url, "GET", "/healthz", alpn=alpn)
        assert answer.status == 200
    await info_of(one)


@pytest.mark.parametrize(
    ("offers", "selected"),
    [(["h2"], "h2"), (["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), ([], None)],
    ids=["gRPC at first", "REST and later gRPC", "urllib", "trickle"],
)
async def test_o1_each_alpn_list_that_a_stock_gateway_offers(
    tmp_path: Path, offers: list[str], selected: str | None
) -> None:
    async with desk(tmp_path, [], tls=True) as one:
        assert (await asyncio.to_thread(leaf_of, one.url, offers))[1] == selected


async def test_o3_the_leaf_is_its_own_root_and_names_the_host(tmp_path: Path) -> None:
    async with desk(tmp_path, [], tls=True) as one:
        leaf, _ = await asyncio.to_thread(leaf_of, one.url, ["h2"])
        found = x509.load_pem_x509_certificate(leaf)
        assert found.issuer == found.subject
        rules = found.extensions.get_extension_for_class(x509.BasicConstraints)
        assert rules.value.ca
        assert name_in(leaf) == "127.0.0.1"
        # grpcio, which verifies, takes it.
        assert (await info_of(one)).transcoder == one.url


async def test_o4_a_session_is_refreshed_at_the_transcoders_address(one: Desk) -> None:
    first = await info_of(one)
    assert first.transcoder == one.url
    for _ in range(2):
        assert (await start(one)).status == 200
    request = OrchestratorRequest.parse(captured(GATEWAYS_REQUEST))
    with pytest.raises(grpc.RpcError) as caught:
        await info_of(one)
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert caught.value.details() == "Invalid orchestrator request: OrchestratorCapped"
    refresh = OrchestratorRequest(capabilities=request.capabilities, ignore_capacity_check=True)
    again = await info_of(one, refresh.serialise())
    assert again.transcoder == first.transcoder
    assert again.auth_token is not None


async def test_ping_and_end_of_session_are_answered(one: Desk) -> None:
    assert await grpcio(one, "Ping", PingPong(b"hello").serialise()) == b""
    token = (await info_of(one)).auth_token
    request = EndSessionRequest(token).serialise()
    assert await grpcio(one, "EndTranscodingSession", request) == b""
    assert token is not None
    for other in (None, replace(token, expiration=token.expiration + 1)):
        with pytest.raises(grpc.RpcError) as caught:
            await grpcio(one, "EndTranscodingSession", EndSessionRequest(other).serialise())
        assert caught.value.code() is grpc.StatusCode.UNKNOWN
        assert "auth token" in str(caught.value.details())
    with pytest.raises(grpc.RpcError) as caught:
        await grpcio(one, "Nope", b"")
    assert caught.value.details() == "unknown method Nope for service net.Orchestrator"
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


# the offer


@pytest.mark.parametrize("models", ["some", "none"])
async def test_o5_constraints_are_always_there(tmp_path: Path, models: str) -> None:
    async with (
        RunnerDouble().running() as runner,
        desk(tmp_path, sold(runner) if models == "some" else []) as one,
    ):
        for request in (captured(GATEWAYS_REQUEST), captured(SDKS_REQUEST), b""):
            info = await info_of(one, request)
            assert info.capabilities is not None
            assert info.capabilities.constraints is not None
            assert LIVE_VIDEO_TO_VIDEO in info.capabilities.constraints


async def test_o6_all_default_bits_and_35_are_set_with_a_capacity_of_1(one: Desk) -> None:
    capabilities = (await info_of(one)).capabilities
    assert capabilities is not None
    assert {bit for bit in range(128) if capabilities.has(bit)} == DEFAULTS
    assert capabilities.bitstring == (0x8_0400_5FFF,)
    assert capabilities.capacities == dict.fromkeys(DEFAULTS, 1)
    assert capabilities.mandatories == ()
    assert set(capabilities.models()) == {MODEL}


async def test_o7_versions_are_real_ones(one: Desk) -> None:
    capabilities = (await info_of(one)).capabilities
    assert capabilities is not None
    assert re.fullmatch(r"\d+\.\d+\.\d+", capabilities.version)
    assert re.fullmatch(r"\d+\.\d+\.\d+", capabilities.models()[MODEL].runner_version)


async def test_o8_o9_a_token_that_lasts_comes_with_every_answer(one: Desk) -> None:
    sessions = set()
    for request in (captured(GATEWAYS_REQUEST), captured(SDKS_REQUEST), b""):
        token = (await info_of(one, request)).auth_token
        assert token is not None
        assert len(token.token) == 32
        assert re.fullmatch(r"[0-9a-f]{8}", token.session_id)
        # Far from the three minutes before its end at which gateways ask again.
        assert token.expiration > time.time() + 24 * 3600
        sessions.add(token.session_id)
    assert len(sessions) == 3


async def test_o10_off_chain_there_is_no_price_and_no_ticket(one: Desk) -> None:
    info = await info_of(one)
    assert info.price_info is None
    assert info.ticket_params is None
    assert info.capabilities_prices == ()
    assert info.address == NO_ADDRESS == bytes(20)


async def test_o23_the_sdks_request_without_bits_is_answered_and_capacity_enforced_later(
    one: Desk,
) -> None:
    request = OrchestratorRequest.parse(captured(SDKS_REQUEST))
    assert request.capabilities is not None
    assert request.capabilities.bitstring == ()
    for _ in range(2):
        assert (await start(one)).status == 200
    ignoring = OrchestratorRequest(capabilities=request.capabilities, ignore_capacity_check=True)
    info = await info_of(one, ignoring.serialise())
    assert info.capabilities is not None
    assert info.capabilities.models()[MODEL] == ModelConstraint(
        warm=True, capacity=0, capacity_in_use=2, runner_version="0.9.1"
    )
    answer = await start(one)
    assert (answer.status, answer.text) == (503, "insufficient capacity\n")


async def test_capabilities_are_understood_both_ways(one: Desk) -> None:
    theirs = OrchestratorRequest.parse(captured(GATEWAYS_REQUEST)).capabilities
    assert theirs is not None
    ours = (await info_of(one)).capabilities
    assert ours is not None
    # What they ask for is in what they get, by a stock gateway's own rule.
    assert all(
        want & have == want for want, have in zip(theirs.bitstring, ours.bitstring, strict=True)
    )
    assert set(theirs.models()) <= set(ours.models())
    assert Capabilities.parse(ours.serialise()) == ours


# the job


async def test_o11_o12_o13_the_answer_has_all_five_in_json_at_absolute_addresses(
    one: Desk,
) -> None:
    answer = await start(one)
    assert answer.status == 200
    assert "json" in answer.headers["content-type"]
    fields: dict[str, Any] = json.loads(answer.body)
    mid = fields.pop("manifest_id")
    assert fields == {
        "publish_url": f"{one.url}/ai/trickle/{mid}",
        "subscribe_url": f"{one.url}/ai/trickle/{mid}-out",
        "control_url": f"{one.url}/ai/trickle/{mid}-control",
        "events_url": f"{one.url}/ai/trickle/{mid}-events",
    }


async def test_o14_the_answer_comes_within_the_gateways_5_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert jobs_module.START_BUDGET < 5.0
    monkeypatch.setattr(jobs_module, "START_BUDGET", 0.4)
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        runner.refuse = hanging()
        before = time.monotonic()
        answer = await start(one)
        assert time.monotonic() - before < 2.0
        assert answer.status == 503


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"Livepeer-Segment": ""}, 403, "missing auth token\n"),
        ({"Livepeer-Segment": "%%%"}, 403, "ErrorSegEncoding\n"),
        ({"Livepeer-Payment": "%%%"}, 402, "base64 decode error"),
    ],
)
async def test_o15_refusals_have_the_words_of_a_stock_node(
    one: Desk, change: dict[str, str], status: int, words: str
) -> None:
    answer = await start(one, headers=change)
    assert answer.status == status
    assert answer.text.startswith(words)
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_o15_what_a_runner_says_no_with_stops_or_moves_the_gateway(one: Desk) -> None:
    runner = runner_of(one)
    runner.refuse = refusing(400, "no such effect")
    answer = await start(one)
    assert answer.status == 500
    assert answer.text == "live-video-to-video container returned 400: no such effect\n"
    runner.refuse = refusing(500, "insufficient capacity")
    answer = await start(one)
    assert answer.status == 503
    assert answer.text.startswith("insufficient capacity")


async def test_o17_an_input_post_is_answered_when_its_body_ends_whoever_reads(one: Desk) -> None:
    url = json.loads((await start(one)).body)["publish_url"]
    for sequence in range(6):
        before = time.monotonic()
        path = f"{url.removeprefix(one.url)}/{sequence}"
        answer = await http11(one.url, "POST", path, b"x" * 1000, {"Content-Type": "video/MP2T"})
        assert answer.status == 200
        assert answer.headers["lp-trickle-seq"] == str(sequence)
        assert time.monotonic() - before < 2.0


async def test_o18_a_runner_that_loads_is_not_sold_as_ready(one: Desk) -> None:
    runner_of(one).status = RunnerStatus.LOADING
    await one.until(lambda status: status["runners"][0]["state"] == "loading")
    answer = await start(one)
    assert (answer.status, answer.text) == (503, "insufficient capacity\n")
    capabilities = (await one.ask(MODEL, ignore=True)).capabilities
    assert capabilities is not None
    assert not capabilities.models()[MODEL].warm


@pytest.mark.parametrize("channel", ["control_url", "publish_url"])
async def test_o19_the_end_of_control_or_of_input_is_the_end_of_the_job(
    one: Desk, channel: str
) -> None:
    fields = json.loads((await start(one)).body)
    path = fields[channel].removeprefix(one.url)
    assert (await http11(one.url, "DELETE", path)).status == 200
    await one.until(lambda status: status["jobs"] == [])
    names = ("publish_url", "subscribe_url", "control_url", "events_url")
    assert [await one.exists(fields[name]) for name in names] == GONE


async def test_o20_o22_payments_name_our_manifest_and_are_answered_each_time(one: Desk) -> None:
    mid = json.loads((await start(one)).body)["manifest_id"]
    headers = await headers_of(one, manifest_id=mid)
    token = SegData.from_header(headers["Livepeer-Segment"]).auth_token
    for _ in range(5):
        answer = await http11(one.url, "POST", "/payment", b"", headers)
        assert answer.status == 200
        result = PaymentResult.parse(answer.body)
        assert result.info is not None
        assert result.info.auth_token == token
        assert result.info.transcoder == one.url
        assert result.info.price_info is None
        assert result.info.capabilities is not None


async def test_o21_a_segment_header_with_nothing_but_the_token_will_do(one: Desk) -> None:
    token = (await info_of(one, captured(SDKS_REQUEST))).auth_token
    headers = {
        "Livepeer-Payment": "",
        "Livepeer-Segment": SegData(auth_token=token).to_header(),
        "Content-Type": "application/json",
        "Accept": "application/json",
        "User-Agent": "livepeer-python-gateway/0.1",
    }
    body = json.dumps({"model_id": MODEL}).encode()
    answer = await http11(one.url, "POST", "/live-video-to-video", body, headers)
    assert answer.status == 200
    assert json.loads(answer.body)["manifest_id"]
    assert (await http11(one.url, "POST", "/payment", b"", headers)).status == 200


async def test_o25_the_output_says_that_it_is_mpeg_ts(one: Desk) -> None:
    url = json.loads((await start(one)).body)["subscribe_url"].removeprefix(one.url)
    assert (await http11(one.url, "POST", f"{url}/0", b"x")).status == 200
    answer = await http11(one.url, "GET", f"{url}/0", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-type"].lower() == "video/mp2t"
    assert "content-encoding" not in answer.headers
    assert answer.headers["lp-trickle-seq"] == "0"


@pytest.mark.parametrize("params", ["null", "{}", None])
async def test_o26_no_params_are_no_params_to_the_runner(one: Desk, params: str | None) -> None:
    told = f', "params": {params}' if params is not None else ""
    body = f'{{"model_id": "{MODEL}"{told}}}'
    answer = await start(one, body.encode())
    assert answer.status == 200
    (taken,) = runner_of(one).starts
    assert taken.params == {}
    assert b"params" not in taken.serialise()


async def test_a_run_of_refusals_is_cheap_and_takes_nothing(one: Desk) -> None:
    # With one orchestrator, each refusal makes a stock gateway ask again: 20 in 0.2 s.
    runner_of(one).refuse = refusing(500, "insufficient capacity")
    headers = await headers_of(one)
    body = captured("live-job/stock-gateway.job.body.json")
    for _ in range(20):
        answer = await http11(one.url, "POST", "/live-video-to-video", body, headers)
        assert answer.status == 503
    assert (await one.status())["jobs"] == []
    runner_of(one).refuse = None
    assert (await start(one)).status == 200


# trickle addresses


async def test_o28_trickle_may_be_in_plain_text_beside_tls(tmp_path: Path) -> None:
    async with (
        RunnerDouble().running() as runner,
        desk(tmp_path, sold(runner), tls=True, trickle_url="http://127.0.0.1:0") as one,
    ):
        fields = json.loads((await start(one)).body)
        assert one.url.startswith("https://")
        base = f"http://127.0.0.1:{one.node.trickle_port}"
        assert one.node.trickle_port not in (0, one.node.port)
        names = ("publish_url", "subscribe_url", "control_url", "events_url")
        assert [fields[name].startswith(f"{base}/ai/trickle/") for name in names] == [True] * 4
        path = fields["publish_url"].removeprefix(base)
        assert (await http11(base, "POST", f"{path}/0", b"x")).status == 200
        # The runner reads the same channel, at the address that it is told.
        (taken,) = runner.starts
        assert taken.subscribe_url.startswith(f"{one.url}/ai/trickle/")
        assert (await http11(one.url, "GET", f"{path}/0")).body == b"x"
        # Nothing but trickle is there in plain text.
        for other in ("/payment", "/live-video-to-video"):
            assert (await http11(base, "POST", other, b"")).status == 404
        assert (await http11(base, "DELETE", path)).status == 200
        await one.until(lambda status: status["jobs"] == [])


async def test_o28_trickle_may_be_told_at_an_address_with_a_real_certificate(
    tmp_path: Path,
) -> None:
    async with (
        RunnerDouble().running() as runner,
        desk(tmp_path, sold(runner), trickle_url="https://trickle.example.org/a/") as one,
    ):
        fields = json.loads((await start(one)).body)
        assert fields["publish_url"].startswith("https://trickle.example.org/a/ai/trickle/")
        assert one.node.trickle_port == 0
