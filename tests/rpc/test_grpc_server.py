"""The gRPC server against real grpcio clients, and against clients that misbehave."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.rpc import grpc_server
from relay.rpc.frame_meter import PREFACE
from relay.rpc.grpc import frame
from relay.rpc.grpc_server import GrpcConnection, GrpcServer, Limits
from tests.network import eventually
from tests.rpc.captured import captured
from tests.rpc.fronts import GRPC, REFUSAL, certificate, running_front
from tests.rpc.raw import HANG, PING_HEADERS, raw_client


def _channel(port: int, secure: bool) -> Any:
    target = f"127.0.0.1:{port}"
    if secure:
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(certificate()[0]))
    return grpc.insecure_channel(target)


async def grpcio(
    port: int, method: str, *messages: bytes, secure: bool = False, timeout: float = 5, **call: Any
) -> list[bytes]:
    """Calls by grpcio, in a thread of its own: it has an event loop of its own kind."""

    def run() -> list[bytes]:
        with _channel(port, secure) as channel:
            remote = channel.unary_unary(f"/net.Orchestrator/{method}")
            return [remote(message, timeout=timeout, **call) for message in messages]

    return await asyncio.to_thread(run)


async def refused(port: int, method: str, message: bytes, **options: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        await grpcio(port, method, message, **options)
    return caught.value


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_grpcio_calls_are_answered(secure: bool) -> None:
    async with running_front(secure=secure) as (_, port):
        messages = [b"", b"hello", bytes(200_000)]
        assert await grpcio(port, "Ping", *messages, secure=secure) == messages


@pytest.mark.parametrize("size", [65_530, 65_535, 65_536, 3_000_000])
async def test_an_answer_larger_than_the_window_waits_for_it(size: int) -> None:
    async with running_front() as (_, port):
        (answer,) = await grpcio(port, "Big", str(size).encode())
        assert len(answer) == size


async def test_an_error_comes_with_its_text_as_stock_nodes_send_it() -> None:
    async with running_front() as (_, port):
        error = await refused(port, "Refuse", b"")
        assert error.code() is grpc.StatusCode.UNKNOWN
        assert error.details() == REFUSAL


async def test_a_bug_is_not_told_to_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    async with running_front() as (_, port):
        error = await refused(port, "Crash", b"")
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "bug" not in error.details()
        assert "a bug" in caplog.text


async def test_an_unknown_method_reads_as_on_a_stock_node() -> None:
    async with running_front() as (_, port):
        error = await refused(port, "Nope", b"")
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert error.details() == "unknown method Nope for service net.Orchestrator"


async def test_a_request_over_the_limit_is_refused() -> None:
    async with running_front(limits=Limits(message=1000)) as (_, port):
        error = await refused(port, "Ping", bytes(1001))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await grpcio(port, "Ping", bytes(1000)) == [bytes(1000)]


async def test_a_compressed_request_is_refused_by_name() -> None:
    async with running_front() as (_, port):
        error = await refused(port, "Ping", bytes(5000), compression=grpc.Compression.Gzip)
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_call_without_end_is_ended() -> None:
    async with running_front(limits=Limits(call_timeout=0.2)) as (_, port):
        error = await refused(port, "Hang", b"")
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_cancelled_call_is_cancelled_here() -> None:
    async with running_front() as (front, port):
        error = await refused(port, "Hang", b"", timeout=0.3)
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(lambda: not any(item.tasks for item in front.grpc.connections))


async def test_many_calls_share_a_connection() -> None:
    def run(port: int) -> list[bytes]:
        with _channel(port, False) as channel:
            remote = channel.unary_unary("/net.Orchestrator/Ping")
            futures = [remote.future(str(n).encode(), timeout=10) for n in range(300)]
            return [future.result() for future in futures]

    async with running_front() as (_, port):
        answers = await asyncio.to_thread(run, port)
        assert answers == [str(n).encode() for n in range(300)]


# clients that misbehave


@pytest.mark.parametrize(
    ("headers", "status"), [({":method": "GET"}, "405"), ({"content-type": "text/plain"}, "415")]
)
async def test_http2_that_is_no_grpc_is_told_so(headers: dict[str, str], status: str) -> None:
    async with running_front() as (_, port), raw_client(port) as raw:
        stream = raw.request(headers)
        await raw.flush()
        assert (await raw.headers_of(stream))[":status"] == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", "13"),
        (frame(b"a") + frame(b"b"), "13"),
        (frame(b"abc")[:-1], "13"),
        (b"\x09" + bytes(4), "13"),
        (b"\x01" + bytes(4), "12"),
        (b"\0\xff\xff\xff\xff", "8"),
    ],
    ids=["nothing", "two", "half", "flag", "compressed", "length lies"],
)
async def test_a_body_that_is_no_message_is_an_error_of_that_call_only(
    body: bytes, status: str
) -> None:
    async with running_front() as (_, port), raw_client(port) as raw:
        stream = raw.request(end=False)
        raw.h2.send_data(stream, body, end_stream=True)
        await raw.flush()
        assert (await raw.headers_of(stream))["grpc-status"] == status
        stream = raw.request(end=False)
        raw.h2.send_data(stream, frame(b"fine"), end_stream=True)
        await raw.flush()
        assert (await raw.headers_of(stream))["grpc-status"] == "0"


async def test_a_timeout_header_that_is_none_is_refused() -> None:
    async with running_front() as (_, port), raw_client(port) as raw:
        stream = raw.request({"grpc-timeout": "soon"})
        await raw.flush()
        assert (await raw.headers_of(stream))["grpc-status"] == "13"


async def test_requests_that_never_end_are_bounded_together() -> None:
    limits = Limits(message=60_000, buffered=40_000)
    async with running_front(limits=limits) as (_, port), raw_client(port) as raw:
        streams = [raw.request(end=False) for _ in range(2)]
        for stream in streams:
            raw.h2.send_data(stream, frame(bytes(60_000))[:16_000])
            raw.h2.send_data(stream, bytes(8_000))
        await raw.flush()
        assert (await raw.headers_of(streams[1]))["grpc-status"] == "8"


async def test_a_ping_is_acknowledged() -> None:
    async with running_front() as (_, port), raw_client(port) as raw:
        raw.h2.ping(b"12345678")
        await raw.flush()
        await raw.until(
            lambda events: any(isinstance(e, h2.events.PingAckReceived) for e in events)
        )
        assert isinstance(raw.events[-1], h2.events.PingAckReceived)


async def test_rapid_reset_is_answered_by_a_goaway() -> None:
    async with running_front() as (front, port), raw_client(port) as raw:
        for _ in range(200):
            raw.h2.reset_stream(raw.request(HANG))
        await raw.flush()
        assert await raw.goaway() == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
        assert not front.grpc.connections


async def test_a_frame_that_lies_about_its_length_ends_the_connection() -> None:
    async with running_front() as (_, port), raw_client(port) as raw:
        raw.writer.write(b"\xff\xff\xff\0\0\0\0\0\1")
        assert await raw.goaway() == h2.errors.ErrorCodes.FRAME_SIZE_ERROR


async def test_headers_over_the_limit_end_the_connection() -> None:
    async with running_front() as (_, port), raw_client(port) as raw:
        raw.request({"padding": "x" * 20_000})
        await raw.flush()
        await raw.until(lambda events: False)
        assert raw.reader.at_eof()


async def test_more_streams_than_allowed_end_the_connection() -> None:
    async with running_front(limits=Limits(streams=5)) as (_, port), raw_client(port) as raw:
        await raw.until(
            lambda events: any(isinstance(e, h2.events.RemoteSettingsChanged) for e in events)
        )
        assert raw.h2.remote_settings.max_concurrent_streams == 5
        raw.h2.remote_settings = h2.settings.Settings(client=False)
        for _ in range(6):
            raw.request(end=False)
        await raw.flush()
        await raw.until(lambda events: False)
        assert raw.reader.at_eof()


async def test_an_idle_connection_is_closed() -> None:
    async with running_front(limits=Limits(idle_timeout=0.1)) as (_, port), raw_client(port) as raw:
        assert await raw.goaway() == h2.errors.ErrorCodes.NO_ERROR


async def test_an_answer_that_nobody_takes_is_dropped() -> None:
    limits = Limits(call_timeout=0.2)
    async with running_front(limits=limits) as (front, port), raw_client(port) as raw:
        raw.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
        stream = raw.request({":path": "/net.Orchestrator/Big"}, end=False)
        raw.h2.send_data(stream, frame(b"100000"), end_stream=True)
        await raw.flush()
        await raw.until(lambda events: any(isinstance(e, h2.events.StreamReset) for e in events))
        assert isinstance(raw.events[-1], h2.events.StreamReset)
        assert not any(call for item in front.grpc.connections for call in item.tasks)


async def test_a_stop_lets_a_call_end_and_then_closes() -> None:
    async with running_front() as (front, port), raw_client(port) as raw:
        stream = raw.request(HANG, end=False)
        raw.h2.send_data(stream, frame(b""), end_stream=True)
        await raw.flush()
        await eventually(lambda: any(item.tasks for item in front.grpc.connections))
        await front.stop(0.05)
        assert await raw.goaway() == h2.errors.ErrorCodes.NO_ERROR


class Sink(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closing = False
        self.paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing


def _feed(pieces: list[bytes]) -> Sink:
    async def run() -> Sink:
        sink = Sink()
        connection = GrpcConnection(GrpcServer(GRPC))
        connection.connection_made(sink)
        for piece in pieces:
            connection.data_received(piece)
            await asyncio.sleep(0)
        connection.connection_lost(None)
        return sink

    return asyncio.run(run())


async def test_a_socket_that_takes_nothing_stops_the_reading_too() -> None:
    sink = Sink()
    connection = GrpcConnection(GrpcServer(GRPC))
    connection.connection_made(sink)
    connection.data_received(captured("get-orchestrator/stock-gateway-asks.h2c.c2s.bin")[:33])
    connection.pause_writing()
    assert sink.paused
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    client.clear_outbound_data_buffer()
    client.send_headers(1, [*PING_HEADERS])
    client.send_data(1, frame(b"hello"), end_stream=True)
    connection.data_received(client.data_to_send())
    await eventually(lambda: not any(not task.done() for task in connection.tasks))
    await asyncio.sleep(0)
    assert frame(b"hello") not in bytes(sink.written)
    connection.resume_writing()
    assert not sink.paused
    assert frame(b"hello") in bytes(sink.written)
    connection.connection_lost(None)


async def test_what_comes_after_the_goodbye_is_not_looked_at() -> None:
    sink = Sink()
    connection = GrpcConnection(GrpcServer(GRPC))
    connection.connection_made(sink)
    connection.close()
    before = len(sink.written)
    connection.data_received(captured("get-orchestrator/stock-gateway-asks.h2c.c2s.bin"))
    assert len(sink.written) == before
    connection.connection_lost(None)


async def test_a_stream_reset_in_the_bytes_that_opened_it_is_no_error() -> None:
    async with running_front() as (_, port), raw_client(port) as raw:
        bad = raw.request({":path": "/net.Orchestrator/Nope"}, end=False)
        raw.h2.reset_stream(bad)
        good = raw.request(end=False)
        raw.h2.send_data(good, frame(b"fine"), end_stream=True)
        await raw.flush()
        assert (await raw.headers_of(good))["grpc-status"] == "0"


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_any_bytes_behind_the_preface_are_answered_or_refused(pieces: list[bytes]) -> None:
    _feed([PREFACE, *pieces])


@given(st.data())
def test_a_stock_gateways_bytes_with_some_changed_never_break_the_server(
    data: st.DataObject,
) -> None:
    bytes_ = bytearray(captured("get-orchestrator/stock-gateway-asks.tls.c2s.bin"))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(len(PREFACE), len(bytes_) - 1))
        bytes_[place] = data.draw(st.integers(0, 255))
    _feed([bytes(bytes_)])


async def test_no_connection_outlives_the_server_whatever_its_client_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grpc_server, "GONE_WITHIN", 0.1)
    context = ssl.create_default_context(cadata=certificate()[0].decode())
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])

    def connected(port: int) -> ssl.SSLSocket:
        """It says hello, and then nothing: no answer to a goodbye either."""
        sock = socket.create_connection(("127.0.0.1", port), timeout=5)
        wrapped = context.wrap_socket(sock)
        wrapped.sendall(PREFACE + bytes.fromhex("000000040000000000"))
        return wrapped

    async with running_front(secure=True) as (front, port):
        client = await asyncio.to_thread(connected, port)
        await eventually(lambda: front.grpc.connections)
        await front.stop(0)
        assert not front.grpc.connections
        client.close()
