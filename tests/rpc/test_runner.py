"""The runner API: recorded bodies, round trips, and runners that say odd things."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import BadInput, ParseError, PeerError, PeerRefused, Unprocessable
from relay.rpc.hardware import Gpu, HardwareInformation
from relay.rpc.runner import (
    RunnerHealth,
    RunnerStart,
    RunnerStatus,
    RunnerVersion,
    Slots,
    parse_hardware,
    serialise_hardware,
)
from relay.rpc.runner_client import RunnerClient
from relay.rpc.schema import RunnerSchema
from tests.rpc.captured import captured_body
from tests.rpc.peers import Answer, answering, http_peer

START = RunnerStart(
    subscribe_url="https://127.0.0.1:8935/ai/trickle/686f04fd",
    publish_url="https://127.0.0.1:8935/ai/trickle/686f04fd-out",
    control_url="https://127.0.0.1:8935/ai/trickle/686f04fd-control",
    events_url="https://127.0.0.1:8935/ai/trickle/686f04fd-events",
    model_id="ident",
    gateway_request_id="0badcafe",
    manifest_id="686f04fd",
    stream_id="s1",
)


@asynccontextmanager
async def client(routes: dict[str, Answer]) -> AsyncIterator[RunnerClient]:
    async with http_peer(routes) as url, aiohttp.ClientSession() as session:
        yield RunnerClient(session, url, token="secret")


def test_a_stock_orchestrators_start_is_understood() -> None:
    assert RunnerStart.parse(captured_body("live-job/runner-start.request.bin")) == START


def test_a_start_survives_the_wire_and_leaves_empty_params_out() -> None:
    assert RunnerStart.parse(START.serialise()) == START
    assert "params" not in orjson.loads(START.serialise())
    with_params = RunnerStart("http://a/1", "http://a/2", params={"effect": "edges"})
    assert RunnerStart.parse(with_params.serialise()) == with_params


def test_a_token_survives_the_wire_and_is_not_printed() -> None:
    start = replace(START, trickle_token="abc123")
    assert RunnerStart.parse(start.serialise()) == start
    assert "abc123" not in repr(start)
    assert b"trickle_token" not in START.serialise()


def test_a_token_that_fits_no_header_is_unprocessable() -> None:
    body = orjson.dumps({**orjson.loads(START.serialise()), "trickle_token": "a\nb"})
    with pytest.raises(Unprocessable):
        RunnerStart.parse(body)


async def test_a_refusal_that_quotes_the_order_gives_its_token_away_to_nobody() -> None:
    start = replace(START, trickle_token="secret-0123456789")
    quoted = orjson.dumps({"detail": [{"input": orjson.loads(start.serialise())}]}).decode()
    for text in (quoted, f'{{"detail": {{"msg": "no: {start.trickle_token[:11]}"}}}}'):
        async with client({"POST /live-video-to-video": answering(422, text)}) as runner:
            with pytest.raises(PeerRefused) as refusal:
                await runner.start(start, timeout=2)
        assert "secret-0" not in str(refusal.value)
        assert "returned 422: " in str(refusal.value)


@pytest.mark.parametrize("body", [b"", b"{nope", b"[]", b'"x"'])
def test_a_start_that_is_no_json_object_is_bad_input(body: bytes) -> None:
    with pytest.raises(ParseError):
        RunnerStart.parse(body)


@pytest.mark.parametrize(
    "change",
    [
        {"subscribe_url": None},
        {"publish_url": ""},
        {"subscribe_url": "file:///etc/passwd"},
        {"control_url": "no address"},
        {"params": [1]},
    ],
)
def test_a_start_with_a_wrong_field_is_unprocessable(change: dict[str, object]) -> None:
    fields = {**orjson.loads(START.serialise()), **change}
    with pytest.raises(Unprocessable):
        RunnerStart.parse(orjson.dumps(fields))


@given(st.binary(max_size=80))
def test_bytes_from_strangers_are_messages_or_refused(body: bytes) -> None:
    for parse in (RunnerStart.parse, RunnerHealth.parse, RunnerVersion.parse, parse_hardware):
        try:
            parse(body)
        except (BadInput, Unprocessable):
            continue


def test_the_recorded_answers_of_a_runner_are_understood() -> None:
    health = RunnerHealth.parse(captured_body("live-job/runner-health.response.bin"))
    assert health == RunnerHealth(RunnerStatus.OK)
    version = RunnerVersion.parse(captured_body("live-job/runner-version.response.bin"))
    assert version == RunnerVersion("0.9.1", "ident")
    hardware = parse_hardware(captured_body("live-job/runner-hardware-info.response.bin"))
    assert hardware == HardwareInformation("live-video-to-video", "ident")


@pytest.mark.parametrize("status", list(RunnerStatus))
@pytest.mark.parametrize("slots", [None, Slots(2, 0), Slots(2, 2)])
@pytest.mark.parametrize("broken", [(), ("a", "b")])
def test_health_survives_the_wire(
    status: RunnerStatus, slots: Slots | None, broken: tuple[str, ...]
) -> None:
    health = RunnerHealth(status, slots, broken)
    assert RunnerHealth.parse(health.serialise()) == health


@pytest.mark.parametrize("told", [b"null", b"7", b'{"a": 1}', b"[null, 7, []]"])
def test_broken_models_that_make_no_sense_are_none(told: bytes) -> None:
    body = b'{"status": "OK", "broken_models": ' + told + b"}"
    assert RunnerHealth.parse(body) == RunnerHealth(RunnerStatus.OK)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"status": "FINE"}',
        b'{"status": 1}',
        b'{"status": "OK", "slots": {"total": 1, "free": 2}}',
        b'{"status": "OK", "slots": {"total": 1, "free": -1}}',
        b'{"status": "OK", "slots": {"total": true, "free": false}}',
        b'{"status": "OK", "slots": {}}',
    ],
)
def test_health_that_makes_no_sense_is_refused(body: bytes) -> None:
    with pytest.raises(ParseError):
        RunnerHealth.parse(body)


def test_hardware_survives_the_wire_and_lies_are_cut_to_what_fits() -> None:
    card = Gpu("GPU-1", "L4", 8, 9, 10_000_000_000, 24_000_000_000)
    hardware = HardwareInformation("live-video-to-video", "effects", {"0": card})
    assert parse_hardware(serialise_hardware(hardware)) == hardware
    odd = parse_hardware(
        b'{"gpu_info": {"0": {"major": 1e18, "minor": -4, "memory_total": 18446744073709551615,'
        b' "memory_free": "much"}, "1": 7}}'
    )
    assert odd.gpus == {"0": Gpu("", "", 2**31 - 1, 0, 0, 2**63 - 1)}
    odd.serialise()


async def test_calls_carry_the_token() -> None:
    seen: list[str] = []

    async def health(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.Response(text='{"status": "IDLE"}', content_type="application/json")

    async with client({"GET /health": health}) as runner:
        assert await runner.health(timeout=5) == RunnerHealth(RunnerStatus.IDLE)
    assert seen == ["Bearer secret"]


async def test_a_health_answer_that_is_none_is_an_error() -> None:
    for answer in (answering(503, "{}"), answering(200, "fine", "text/plain")):
        async with client({"GET /health": answer}) as runner:
            with pytest.raises(PeerError):
                await runner.health(timeout=5)


async def test_a_runner_that_tells_little_is_taken_as_it_is() -> None:
    async with client({}) as runner:
        assert await runner.version(timeout=5) == "0.0.0"
        assert await runner.hardware(timeout=5) is None
        assert await runner.schema("m", timeout=5) is None


async def test_a_runner_that_tells_all_is_understood() -> None:
    schema = RunnerSchema("effects", "1", {"type": "object"})

    async def answer_schema(request: web.Request) -> web.Response:
        assert request.query["model_id"] == "effects"
        return web.Response(body=schema.serialise(), content_type="application/json")

    routes = {
        "GET /version": answering(200, '{"version": "0.9.1"}'),
        "GET /hardware/info": answering(200, '{"pipeline": "p", "model_id": "m"}'),
        "GET /schema": answer_schema,
    }
    async with client(routes) as runner:
        assert await runner.version(timeout=5) == "0.9.1"
        assert await runner.hardware(timeout=5) == HardwareInformation("p", "m")
        assert await runner.schema("effects", timeout=5) == schema


@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        (400, '{"detail": {"msg": "no such model"}}', "runner_bad_request"),
        (422, '{"detail": [{"msg": "wrong"}]}', "runner_bad_request"),
        (401, '{"detail": {"msg": "who are you"}}', "runner_refused"),
        (500, '{"detail": {"msg": "it broke"}}', "runner_refused"),
        (500, '{"detail": {"msg": "insufficient capacity"}}', "runner_capacity"),
        (503, "busy", "runner_capacity"),
        (201, "{}", "runner_refused"),
    ],
)
async def test_each_refusal_of_a_start_has_its_code(status: int, text: str, code: str) -> None:
    async with client({"POST /live-video-to-video": answering(status, text)}) as runner:
        with pytest.raises(PeerRefused, match=f"container returned {status}") as caught:
            await runner.start(START, timeout=5)
        assert caught.value.code == code
        if '"msg": "' in text and status != 422:
            assert str(caught.value).endswith(text.split('"')[5])


async def test_the_answer_of_a_start_is_not_looked_at() -> None:
    for body in ("{}", "", "not JSON"):
        async with client({"POST /live-video-to-video": answering(200, body)}) as runner:
            await runner.start(START, timeout=5)
