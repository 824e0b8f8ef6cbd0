"""Starting a live job: what goes out, what comes back, and each way to be refused."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import BadInput, PeerError, PeerRefused, PeerTimeout
from relay.rpc.auth_token import AuthToken
from relay.rpc.live_job import LiveJobAnswer, LiveJobRequest, start_live_job
from relay.rpc.seg_data import SegData
from tests.rpc.captured import captured
from tests.rpc.peers import Answer, answering, http_peer

TOKEN = AuthToken(b"t" * 32, "0badcafe", 1_800_000_000)
REQUEST = LiveJobRequest("ident", {"n": 1}, gateway_request_id="11467777", stream_id="a0")
BASE = "https://node:8935/ai/trickle/99df2831"
ANSWER = {
    "publish_url": BASE,
    "subscribe_url": f"{BASE}-out",
    "control_url": f"{BASE}-control",
    "events_url": f"{BASE}-events",
    "manifest_id": "99df2831",
}
GOOD = orjson.dumps(ANSWER).decode()


async def start(answer: Answer, *, timeout: float = 5.0) -> LiveJobAnswer:
    async with (
        http_peer({"POST /live-video-to-video": answer}) as url,
        aiohttp.ClientSession() as session,
    ):
        return await start_live_job(session, url, REQUEST, auth_token=TOKEN, timeout=timeout)


def test_a_stock_gateways_body_is_understood_and_written_the_same() -> None:
    body = captured("live-job/stock-gateway.job.body.json")
    request = LiveJobRequest.parse(body)
    assert request == LiveJobRequest("ident", {}, "11467777", "a0")
    assert request.serialise() == body


@pytest.mark.parametrize("params", ["null", "{}"])
def test_no_params_read_as_empty_ones(params: str) -> None:
    assert LiveJobRequest.parse(b'{"model_id":"m","params":%s}' % params.encode()).params == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{nope",
        b"[]",
        b"{}",
        b'{"model_id": null}',
        b'{"model_id": 7}',
        b'{"model_id": ""}',
        b'{"model_id": "%s"}' % (b"x" * 300),
        b'{"model_id": "m", "params": []}',
        b'{"model_id": "\\ud800"}',
        b"[" * 2000,
    ],
)
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput):
        LiveJobRequest.parse(body)


@given(st.binary(max_size=100))
def test_bytes_from_strangers_are_a_request_or_refused(body: bytes) -> None:
    try:
        request = LiveJobRequest.parse(body)
    except BadInput:
        return
    assert request.model_id


async def test_what_goes_out_is_what_a_stock_gateway_sends() -> None:
    seen: dict[str, Any] = {}

    async def answer(request: web.Request) -> web.Response:
        seen.update(headers=request.headers, body=await request.read())
        return web.Response(text=GOOD, content_type="application/json")

    assert await start(answer) == LiveJobAnswer(**ANSWER)
    assert LiveJobRequest.parse(seen["body"]) == REQUEST
    headers = seen["headers"]
    assert headers["Livepeer-Payment"] == ""
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Livepeer-AI-Worker-1.0"
    segment = SegData.from_header(headers["Livepeer-Segment"])
    theirs = SegData.parse(captured("live-job/stock-gateway.job.livepeer-segment.bin"))
    assert segment.auth_token == TOKEN
    assert segment.capabilities is not None
    assert theirs.capabilities is not None
    assert segment.capabilities.constraints == theirs.capabilities.constraints
    assert (segment.manifest_id, segment.hash) == (theirs.manifest_id, theirs.hash)


def test_an_answer_survives_the_wire() -> None:
    answer = LiveJobAnswer(**ANSWER)
    assert LiveJobAnswer.parse(answer.serialise(), transcoder="https://x:1") == answer


def test_a_token_survives_the_wire_and_is_not_printed() -> None:
    answer = LiveJobAnswer(**ANSWER, trickle_token="a-B_9.~+/==")
    assert LiveJobAnswer.parse(answer.serialise(), transcoder="https://x:1") == answer
    assert "a-B_9" not in repr(answer)
    assert b"trickle_token" not in LiveJobAnswer(**ANSWER).serialise()


@pytest.mark.parametrize("empty", [None, "", False, 0])
def test_no_token_is_an_empty_one(empty: object) -> None:
    body = orjson.dumps({**ANSWER, "trickle_token": empty})
    assert LiveJobAnswer.parse(body, transcoder="https://x:1").trickle_token == ""


@pytest.mark.parametrize(
    "token", ["a b", "a\r\nX-Evil: 1", "a\n", "=", "é", "a" * 1025, 7, True, ["a"], {"a": "b"}]
)
def test_a_token_that_fits_no_header_is_bad_input(token: object) -> None:
    body = orjson.dumps({**ANSWER, "trickle_token": token})
    with pytest.raises(BadInput) as refusal:
        LiveJobAnswer.parse(body, transcoder="https://x:1")
    assert refusal.value.code == "bad_token"
    assert str(refusal.value) == "trickle_token is no bearer token"


def test_addresses_without_a_host_are_on_the_transcoder() -> None:
    body = orjson.dumps({**ANSWER, "events_url": "/ai/trickle/1-events"})
    answer = LiveJobAnswer.parse(body, transcoder="https://node:8935/")
    assert answer.events_url == "https://node:8935/ai/trickle/1-events"


@pytest.mark.parametrize("name", ["publish_url", "subscribe_url", "control_url", "events_url"])
@pytest.mark.parametrize("value", [None, "", 7, "ftp://x/y", "http://a b/"])
async def test_an_answer_without_all_four_channels_is_none(name: str, value: object) -> None:
    with pytest.raises(PeerError) as caught:
        await start(answering(200, orjson.dumps({**ANSWER, name: value}).decode()))
    assert caught.value.code == "bad_answer"


async def test_a_manifest_id_may_be_missing() -> None:
    body = orjson.dumps({key: ANSWER[key] for key in ANSWER if key != "manifest_id"}).decode()
    assert (await start(answering(200, body))).manifest_id == ""


@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        (503, "insufficient capacity\n", "orchestrator_capped"),
        (503, "draining", "orchestrator_capped"),
        (403, "OrchestratorCapped\n", "orchestrator_capped"),
        (403, "invalid auth token\n", "orchestrator_token"),
        (403, "ErrSegSig\n", "orchestrator_refused"),
        (400, "invalid character 'n'", "orchestrator_bad_request"),
        (
            500,
            "live-video-to-video container returned 400: no such model",
            "orchestrator_bad_request",
        ),
        (500, "no container image found for live pipeline x", "orchestrator_refused"),
        (302, "", "orchestrator_refused"),
        (201, GOOD, "orchestrator_refused"),
    ],
)
async def test_each_refusal_has_its_code_and_its_text(status: int, text: str, code: str) -> None:
    with pytest.raises(PeerRefused, match=str(status)) as caught:
        await start(answering(status, text, "text/plain"))
    assert caught.value.code == code
    assert text.strip()[:400] in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (GOOD, "text/plain"),
        ("", "application/json"),
        ("[]", "application/json"),
        ("x" * 70_000, "application/json"),
    ],
    ids=["no JSON type", "empty", "no object", "endless"],
)
async def test_a_200_that_is_no_answer_is_an_error(text: str, kind: str) -> None:
    with pytest.raises(PeerError) as caught:
        await start(answering(200, text, kind))
    assert caught.value.code in ("bad_answer", "peer_answer")


async def test_no_answer_in_time_is_a_timeout() -> None:
    async def wait(request: web.Request) -> web.Response:
        await asyncio.sleep(10)
        return web.Response()

    with pytest.raises(PeerTimeout):
        await start(wait, timeout=0.1)


async def test_a_dropped_connection_is_unreachable() -> None:
    async def drop(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    with pytest.raises(PeerError) as caught:
        await start(drop)
    assert caught.value.code == "peer_unreachable"
