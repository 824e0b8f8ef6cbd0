"""The gRPC client against a real grpcio server, a stock node's bytes, and bad peers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import (
    BadInput,
    ParseError,
    PeerError,
    PeerRefused,
    PeerTimeout,
    RateLimited,
    TooLarge,
)
from relay.rpc.address import NodeAddress
from relay.rpc.client import MAX_RECEIVED, PING, Exchange, call, get_orchestrator, ping
from relay.rpc.grpc import frame
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.orchestrator_request import OrchestratorRequest
from relay.rpc.wire import MAX_MESSAGE
from tests.rpc.captured import captured
from tests.rpc.fronts import certificate

INFO = captured("get-orchestrator/stock-orchestrator.like-go-gateway.response.bin")
REQUEST = OrchestratorRequest.for_live("ident")


class Service(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A grpcio server's side of ``net.Orchestrator``, on bare bytes."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.release = threading.Event()

    def service(self, details: Any) -> Any:
        answer = {
            "/net.Orchestrator/GetOrchestrator": self._info,
            "/net.Orchestrator/Ping": lambda request, context: request,
            "/net.Orchestrator/Capped": self._capped,
            "/net.Orchestrator/Huge": lambda request, context: bytes(MAX_MESSAGE + 1),
            "/net.Orchestrator/Slow": lambda request, context: self.release.wait(10) and b"",
        }.get(details.method)
        return answer and grpc.unary_unary_rpc_method_handler(answer)

    def _info(self, request: bytes, context: Any) -> bytes:
        self.seen.append(request)
        return INFO

    def _capped(self, request: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.UNKNOWN, "Invalid orchestrator request: OrchestratorCapped")
        return b""


@contextmanager
def grpcio_server(*, secure: bool = False) -> Iterator[tuple[Service, str]]:
    service = Service()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, handlers=[service])
        if secure:
            pair = certificate()[1], certificate()[0]
            port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        else:
            port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield service, f"{'https' if secure else 'http'}://127.0.0.1:{port}"
        finally:
            service.release.set()
            server.stop(None).wait(5)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_grpcio_answers_us(secure: bool) -> None:
    with grpcio_server(secure=secure) as (service, url):
        info = await get_orchestrator(url, REQUEST, timeout=5)
        assert info == OrchestratorInfo.parse(INFO)
        assert OrchestratorRequest.parse(service.seen[0]) == REQUEST
        assert await ping(url, b"hello", timeout=5) == b"hello"


@pytest.mark.parametrize("size", [0, 65_530, 65_536, 900_000])
async def test_a_message_larger_than_the_window_goes_both_ways(size: int) -> None:
    with grpcio_server() as (_, url):
        assert await call(url, PING, bytes(size), timeout=5) == bytes(size)


async def test_a_full_orchestrator_is_told_from_others() -> None:
    with grpcio_server() as (_, url):
        with pytest.raises(PeerRefused, match="OrchestratorCapped") as caught:
            await call(url, "/net.Orchestrator/Capped", b"", timeout=5)
        assert caught.value.code == "orchestrator_capped"


async def test_an_unknown_method_is_a_refusal_with_its_text() -> None:
    with grpcio_server() as (_, url):
        with pytest.raises(PeerRefused, match="Method not found") as caught:
            await call(url, "/net.Orchestrator/Nope", b"", timeout=5)
        assert caught.value.code == "peer_refused"


async def test_an_answer_over_the_limit_is_refused() -> None:
    with grpcio_server() as (_, url), pytest.raises(PeerError, match="over"):
        await call(url, "/net.Orchestrator/Huge", b"", timeout=5)


async def test_no_answer_in_time_is_a_timeout() -> None:
    with grpcio_server() as (_, url), pytest.raises(PeerTimeout):
        await call(url, "/net.Orchestrator/Slow", b"", timeout=0.2)


# peers that are no gRPC server

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def peer(serve: Serve) -> AsyncIterator[str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def says(data: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(data)
        await writer.drain()
        await reader.read()

    return serve


@pytest.mark.parametrize("name", ["like-go-gateway", "no-capabilities"])
async def test_a_stock_orchestrators_bytes_are_understood(name: str) -> None:
    stream = captured(f"get-orchestrator/stock-orchestrator.{name}.s2c.bin")
    answer = captured(f"get-orchestrator/stock-orchestrator.{name}.response.bin")
    async with peer(says(stream)) as url:
        info = await get_orchestrator(url, REQUEST, timeout=5)
    assert info == OrchestratorInfo.parse(answer)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46" + bytes(9),
        b"\xff\xff\xff\0\0\0\0\0\1",
        (b"\0\0\x08\x06\0\0\0\0\0" + bytes(8)) * 2000,
    ],
    ids=["HTTP/1.1", "TLS alert", "length lies", "pings without end"],
)
async def test_a_peer_that_speaks_something_else_is_an_error(data: bytes) -> None:
    async with peer(says(data)) as url:
        with pytest.raises(PeerError) as caught:
            await get_orchestrator(url, REQUEST, timeout=5)
        assert caught.value.code == "peer_answer"


def answering(answer: Callable[[h2.connection.H2Connection], None]) -> Serve:
    """A server of bare `h2` that answers stream 1 as it is told."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        server.initiate_connection()
        ended = False
        while not ended:
            events = server.receive_data(await reader.read(65536))
            ended = any(isinstance(event, h2.events.StreamEnded) for event in events)
            writer.write(server.data_to_send())
        answer(server)
        writer.write(server.data_to_send())
        await writer.drain()
        await reader.read()

    return serve


OK = [(":status", "200"), ("content-type", "application/grpc")]


def _headers(*headers: tuple[str, str], end: bool = True) -> Callable[[Any], None]:
    return lambda server: server.send_headers(1, list(headers), end_stream=end)


def _message_and_no_trailers(server: Any) -> None:
    server.send_headers(1, OK)
    server.send_data(1, frame(INFO), end_stream=True)


def _two_messages(server: Any) -> None:
    server.send_headers(1, OK)
    server.send_data(1, frame(INFO) + frame(INFO))
    server.send_headers(1, [("grpc-status", "0")], end_stream=True)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (_headers((":status", "404")), "answered HTTP 404"),
        (_headers((":status", "200"), ("content-type", "text/html")), "no gRPC"),
        (_headers(*OK, ("grpc-status", "0")), "0 messages"),
        (_message_and_no_trailers, "no grpc-status"),
        (_two_messages, "2 messages"),
        (lambda server: server.reset_stream(1, 7), "reset the call"),
        (lambda server: server.close_connection(11), "went away"),
        (lambda server: server.close_connection(0, last_stream_id=0), "went away"),
    ],
)
async def test_each_broken_answer_is_an_error(answer: Callable[[Any], None], words: str) -> None:
    async with peer(answering(answer)) as url:
        with pytest.raises(PeerError, match=words):
            await get_orchestrator(url, REQUEST, timeout=5)


@pytest.mark.parametrize("kind", [get_orchestrator, ping])
async def test_an_answer_that_is_no_message_is_an_error(kind: Any) -> None:
    def answer(server: Any) -> None:
        server.send_headers(1, OK)
        server.send_data(1, frame(b"\xff\xff"))
        server.send_headers(1, [("grpc-status", "0")], end_stream=True)

    async with peer(answering(answer)) as url:
        with pytest.raises(PeerError) as caught:
            await kind(url, REQUEST if kind is get_orchestrator else b"", timeout=5)
        assert caught.value.code == "peer_answer"


def test_a_peer_that_never_stops_sending_is_cut() -> None:
    exchange = Exchange(NodeAddress.parse("http://x"), PING, b"")
    with pytest.raises(TooLarge, match="for one answer"):
        exchange.receive(bytes(MAX_RECEIVED + 1), 0.0)


async def test_a_peer_that_hangs_up_is_an_error() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)

    async with peer(hang_up) as url:
        with pytest.raises(PeerError):
            await get_orchestrator(url, REQUEST, timeout=5)


async def test_a_peer_that_says_nothing_is_a_timeout() -> None:
    async with peer(says(b"")) as url:
        with pytest.raises(PeerTimeout):
            await get_orchestrator(url, REQUEST, timeout=0.1)


async def test_nobody_there_is_unreachable() -> None:
    async with peer(says(b"")) as url:
        pass
    with pytest.raises(PeerError) as caught:
        await get_orchestrator(url, REQUEST, timeout=2)
    assert caught.value.code == "peer_unreachable"


async def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput):
        await get_orchestrator("ftp://x", REQUEST, timeout=1)


ERRORS = (PeerError, ParseError, TooLarge, RateLimited, h2.exceptions.ProtocolError)


@given(st.data())
def test_a_stock_answer_with_some_bytes_changed_is_an_answer_or_an_error(
    data: st.DataObject,
) -> None:
    stream = bytearray(captured("get-orchestrator/stock-orchestrator.like-go-gateway.s2c.bin"))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))

    exchange = Exchange(NodeAddress.parse("http://x"), PING, b"")
    with suppress(*ERRORS):
        exchange.receive(bytes(stream), 0.0)
        exchange.result()
