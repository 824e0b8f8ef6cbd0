"""HTTP/2 that is within the letter, or nearly, and means harm: each is bounded and let
go, and a call on another connection is answered meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import h2.errors
import h2.events
import h2.settings
import pytest

from relay.rpc import front as front_module
from relay.rpc.client import ping
from relay.rpc.frame_meter import PREFACE
from relay.rpc.front import Front
from relay.rpc.grpc import frame
from relay.rpc.grpc_server import GrpcConnection, Limits
from tests.network import eventually
from tests.rpc.fronts import running_front
from tests.rpc.raw import BIG, HANG, Raw, raw_client

CALM = h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
PROTOCOL = h2.errors.ErrorCodes.PROTOCOL_ERROR
WINDOW = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9


def raw_frame(kind: int, payload: bytes = b"", *, stream: int = 0, flags: int = 0) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


@asynccontextmanager
async def attacked(limits: Limits | None = None) -> AsyncIterator[tuple[Front, Raw]]:
    """A server and a bad client; a bystander's calls work before, during and after."""
    async with running_front(limits=limits) as (front, port):
        url = f"http://127.0.0.1:{port}"
        async with raw_client(port) as raw, raw_client(port) as other:
            assert (await other.headers_of(await other.call()))["grpc-status"] == "0"
            yield front, raw
            assert (await other.headers_of(await other.call()))["grpc-status"] == "0"
            assert await ping(url, b"new", timeout=5) == b"new"
        await eventually(lambda: not front.grpc.connections)
        assert front.grpc.held == 0


def the_other(front: Front) -> list[GrpcConnection]:
    return [item for item in front.grpc.connections if item.tasks]


# windows


async def test_a_tiny_window_gets_everything_slowly() -> None:
    async with attacked() as (_, raw):
        raw.h2.update_settings({WINDOW: 7})
        stream = await raw.call(b"300", BIG)
        seen = 0
        while len(raw.data_of(stream)) < 305:
            await raw.until(lambda _: len(raw.data_of(stream)) > seen)  # noqa: B023
            got = len(raw.data_of(stream)) - seen
            assert 0 < got <= 7
            seen += got
            if seen < 305:
                raw.h2.increment_flow_control_window(got, stream)
                await raw.flush()
        assert raw.data_of(stream) == frame(bytes(300))
        assert (await raw.headers_of(stream))["grpc-status"] == "0"


async def test_windows_that_never_open_are_let_go_at_the_deadline() -> None:
    async with attacked(Limits(call_timeout=0.3)) as (front, raw):
        raw.h2.update_settings({WINDOW: 0})
        streams = [await raw.call(b"100000", BIG) for _ in range(20)]
        for stream in streams:
            await raw.until_ended(stream)
            assert raw.data_of(stream) == b""
        resets = [e for e in raw.events if isinstance(e, h2.events.StreamReset)]
        assert {event.error_code for event in resets} == {h2.errors.ErrorCodes.CANCEL}
        assert front.grpc.held == 0


async def test_a_window_over_its_bound_ends_the_connection() -> None:
    async with attacked() as (_, raw):
        raw.writer.write(raw_frame(UPDATE, b"\x7f\xff\xff\xff"))
        assert await raw.goaway() == h2.errors.ErrorCodes.FLOW_CONTROL_ERROR


async def test_more_data_than_the_window_ends_the_connection() -> None:
    async with attacked() as (_, raw):
        stream = raw.request(HANG, end=False)
        await raw.flush()
        for _ in range(5):
            raw.writer.write(raw_frame(DATA, bytes(16384), stream=stream))
        # Each message is refused at its prefix or in sum, far below what was sent.
        await raw.until_ended(stream)
        raw.writer.write(raw_frame(DATA, bytes(16384), stream=stream) * 400)
        await raw.until(lambda _: False)
        assert raw.reader.at_eof()


async def test_a_client_that_reads_nothing_fills_no_memory() -> None:
    async with attacked(Limits(call_timeout=0.5)) as (front, raw):
        raw.h2.update_settings({WINDOW: 2**31 - 1})
        raw.h2.increment_flow_control_window(2**30)
        for _ in range(20):
            await raw.call(b"3000000", BIG)
        await eventually(lambda: any(item.tasks for item in front.grpc.connections))
        # The socket is full: nothing more is taken from it or put into it, and the
        # deadlines go on.
        await eventually(lambda: not any(item.tasks for item in front.grpc.connections))
        assert max(item.waiting for item in front.grpc.connections) < 200_000


# streams


async def test_rapid_reset_costs_the_attacker_its_connection() -> None:
    async with attacked() as (front, raw):
        for _ in range(150):
            raw.h2.reset_stream(raw.request(HANG))
        await raw.flush()
        assert await raw.goaway() == CALM
        assert not the_other(front)


async def test_resets_that_the_server_is_made_to_send_count_as_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with attacked() as (front, raw):
        for _ in range(150):
            stream = raw.request(HANG, end=False)
            raw.h2.send_data(stream, frame(b""), end_stream=True)
            # More data behind the end: this stream is the server's to reset.
            raw.writer.write(raw.h2.data_to_send() + raw_frame(DATA, bytes(100), stream=stream))
        await eventually(lambda: "streams are reset too fast" in caplog.text)
        await eventually(lambda: len(front.grpc.connections) == 1)


async def test_more_streams_than_were_offered_end_the_connection() -> None:
    async with attacked(Limits(streams=10)) as (front, raw):
        for _ in range(10):
            await raw.call(b"", HANG)
        await eventually(lambda: the_other(front) and len(the_other(front)[0].tasks) == 10)
        raw.h2.remote_settings = h2.settings.Settings(client=False)
        raw.request(HANG)
        await raw.flush()
        await raw.until(lambda _: False)
        assert raw.reader.at_eof()
        await eventually(lambda: not the_other(front))


# floods


@pytest.mark.parametrize(
    "flood",
    [
        lambda: raw_frame(PING, bytes(8)),
        lambda: raw_frame(SETTINGS, b"\0\3\0\0\0\7"),
        lambda: raw_frame(SETTINGS),
        lambda: raw_frame(UPDATE, b"\0\0\0\1"),
        lambda: raw_frame(2, b"\0\0\0\0\7", stream=1),
        lambda: raw_frame(0xBE, b"unknown"),
    ],
    ids=["ping", "settings", "empty settings", "window updates", "priority", "unknown kinds"],
)
async def test_a_flood_of_control_frames_is_answered_by_a_goaway(
    flood: Callable[[], bytes],
) -> None:
    async with attacked() as (_, raw):
        raw.writer.write(flood() * 1500)
        assert await raw.goaway() == CALM


@pytest.mark.parametrize("crumb", [b"", b"x"], ids=["empty", "of one byte"])
async def test_a_flood_of_data_crumbs_is_answered_by_a_goaway(crumb: bytes) -> None:
    async with attacked() as (_, raw):
        stream = raw.request(HANG, end=False)
        raw.h2.send_data(stream, b"\0\0\0\xff\xff")
        await raw.flush()
        raw.writer.write(raw_frame(DATA, crumb, stream=stream) * 1500)
        assert await raw.goaway() == CALM


async def test_continuations_without_end_end_the_connection() -> None:
    async with attacked() as (_, raw):
        raw.writer.write(raw_frame(HEADERS, b"\x82", stream=1))
        raw.writer.write(raw_frame(CONTINUATION, b"\0\1a\1b" * 10, stream=1) * 500)
        await raw.until(lambda _: False)
        assert raw.reader.at_eof()


async def test_headers_that_swell_when_they_are_decoded_end_the_connection() -> None:
    async with attacked() as (_, raw):
        # One long field into the table, then named by one byte a thousand times.
        stored = b"\x40\x01a" + b"\x7f\xa1\x1e" + b"x" * 4000
        raw.writer.write(raw_frame(HEADERS, stored + b"\xbe" * 1000, stream=1, flags=4))
        await raw.until(lambda _: False)
        assert raw.reader.at_eof()


# lies


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        (b"\xff\xff\xff" + bytes([DATA, 0, 0, 0, 0, 1]), h2.errors.ErrorCodes.FRAME_SIZE_ERROR),
        (raw_frame(PING, bytes(7)), h2.errors.ErrorCodes.FRAME_SIZE_ERROR),
        (raw_frame(SETTINGS, bytes(5)), h2.errors.ErrorCodes.FRAME_SIZE_ERROR),
        (raw_frame(UPDATE, bytes(3)), h2.errors.ErrorCodes.FRAME_SIZE_ERROR),
        (raw_frame(DATA, b"\xff123", stream=1, flags=8), PROTOCOL),
        (raw_frame(UPDATE, bytes(4)), PROTOCOL),
        (raw_frame(DATA, b"x", stream=0), PROTOCOL),
        (raw_frame(DATA, b"x", stream=7), PROTOCOL),
        (raw_frame(5, bytes(4), stream=1), PROTOCOL),
        (raw_frame(HEADERS, b"\x82", stream=2, flags=4), PROTOCOL),
        (raw_frame(CONTINUATION, b"\x82", stream=1), PROTOCOL),
    ],
    ids=[
        "longer than allowed",
        "a short ping",
        "settings that do not divide",
        "a short window update",
        "more padding than payload",
        "a window update of nothing",
        "data on no stream",
        "data before headers",
        "a push from a client",
        "an even stream",
        "a continuation of nothing",
    ],
)
async def test_frames_that_lie_end_their_connection_only(
    lie: bytes, code: h2.errors.ErrorCodes
) -> None:
    async with attacked() as (_, raw):
        await raw.settled()
        raw.writer.write(lie)
        assert await raw.goaway() in (code, PROTOCOL)


# slowness


async def test_a_request_in_crumbs_meets_its_deadline() -> None:
    async with attacked(Limits(call_timeout=0.5)) as (_, raw):
        stream = raw.request(end=False)
        for byte in b"\0\0\0\0":
            raw.h2.send_data(stream, bytes([byte]))
            await raw.flush()
            await asyncio.sleep(0.02)
        assert (await raw.headers_of(stream))["grpc-status"] == "4"


async def test_headers_that_never_end_count_as_no_call() -> None:
    limits = Limits(idle_timeout=0.3)
    async with running_front(limits=limits) as (_, port), raw_client(port) as raw:
        await raw.settled()
        raw.writer.write(raw_frame(HEADERS, b"\x82", stream=1))
        assert await raw.goaway() == h2.errors.ErrorCodes.NO_ERROR


async def test_pings_keep_no_connection_open() -> None:
    limits = Limits(idle_timeout=0.3)
    async with running_front(limits=limits) as (front, port), raw_client(port) as raw:
        await raw.settled()

        async def pinged() -> bool:
            raw.writer.write(raw_frame(PING, bytes(8)))
            return not front.grpc.connections

        await eventually(pinged, 5, every=0.05)


async def test_connections_without_a_call_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "MAX_GRPC", 8)
    async with running_front() as (front, port):
        squatters = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        for _, writer in squatters:
            writer.write(PREFACE)
        await eventually(lambda: len(front.grpc.connections) == 8)
        assert await ping(f"http://127.0.0.1:{port}", b"in", timeout=5) == b"in"
        await eventually(lambda: len(front.grpc.connections) < 9)
        for _, writer in squatters:
            writer.close()


async def test_connections_with_calls_are_not_cut_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(front_module, "MAX_GRPC", 1)
    async with running_front() as (front, port), raw_client(port) as raw:
        await raw.call(b"", HANG)
        await eventually(lambda: the_other(front))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PREFACE)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        assert the_other(front)


# sizes


async def test_requests_that_wait_are_bounded_over_all_connections() -> None:
    limits = Limits(message=60_000, buffered=60_000, total=50_000)
    async with running_front(limits=limits) as (front, port):
        async with raw_client(port) as first, raw_client(port) as second:
            one = first.request(HANG, end=False)
            first.h2.send_data(one, b"\0\0\0\xea\x60" + bytes(16_000))
            first.h2.send_data(one, bytes(14_000))
            await first.flush()
            await eventually(lambda: front.grpc.held > 30_000)
            two = second.request(HANG, end=False)
            second.h2.send_data(two, b"\0\0\0\xea\x60" + bytes(16_000))
            second.h2.send_data(two, bytes(14_000))
            await second.flush()
            assert (await second.headers_of(two))["grpc-status"] == "8"
            assert front.grpc.held < 31_000
        await eventually(lambda: not front.grpc.held)
