"""One port: the first bytes decide, plain and TLS, on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator

import aiohttp
import pytest
import uvloop
from aiohttp import web

from relay.errors import ConfigError
from relay.rpc import front as front_module
from relay.rpc.certificate import client_context
from relay.rpc.client import ping
from relay.rpc.frame_meter import PREFACE
from relay.rpc.front import Front
from tests.network import eventually
from tests.rpc.fronts import application, running_front


def _on(
    factory: Callable[[], asyncio.AbstractEventLoop], run: Callable[[], Awaitable[None]]
) -> None:
    async def main() -> None:
        await run()
        await asyncio.sleep(0.05)  # uvloop warns of transports whose closing is not done

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


loops = pytest.mark.parametrize(
    "factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


@loops
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_grpc_and_http_share_the_port(
    factory: Callable[[], asyncio.AbstractEventLoop], secure: bool
) -> None:
    async def run() -> None:
        async with running_front(secure=secure) as (_, port), aiohttp.ClientSession() as session:
            url = f"{'https' if secure else 'http'}://127.0.0.1:{port}"
            for n in range(3):
                assert await ping(url, b"%d" % n, timeout=5) == b"%d" % n
                async with session.get(f"{url}/hello", ssl=client_context()) as response:
                    assert await response.text() == "hello"

    _on(factory, run)


@loops
def test_http_bodies_stream_through_as_they_come(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def run() -> None:
        answered = asyncio.Queue[bytes](1)

        async def body() -> Iterator[bytes]:  # type: ignore[misc]
            for n in range(5):
                piece = b"%d" % n * 100_000
                yield piece
                received = b""
                while len(received) < len(piece):
                    received += await answered.get()
                assert received == piece

        async with running_front() as (_, port), aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}/upload"
            async with session.post(url, data=body()) as response:
                async for piece in response.content.iter_any():
                    await answered.put(piece)

    _on(factory, run)


@pytest.mark.parametrize(
    ("offered", "selected"),
    [
        (["h2"], "h2"),
        (["h2", "http/1.1"], "http/1.1"),
        (["http/1.1"], "http/1.1"),
        ([], None),
    ],
)
async def test_http11_is_preferred_and_h2_taken(offered: list[str], selected: str | None) -> None:
    context = client_context(alpn=offered)
    async with running_front(secure=True) as (_, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        chosen: ssl.SSLObject = writer.get_extra_info("ssl_object")
        assert chosen.selected_alpn_protocol() == selected
        writer.close()


async def test_grpc_works_when_http11_was_selected() -> None:
    # A stock gateway offers both once it has made a REST call, and still sends the preface.
    context = client_context(alpn=["h2", "http/1.1"])
    async with running_front(secure=True) as (_, port):
        url = f"https://127.0.0.1:{port}"
        assert await ping(url, b"hello", timeout=5, ssl_context=context) == b"hello"


async def _exchange(port: int, *pieces: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        answer = await reader.read(65536)
    writer.close()
    return answer


async def _is_cut(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(5):
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)


GET = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_a_request_in_single_bytes_is_understood() -> None:
    async with running_front() as (_, port):
        answer = await _exchange(port, *(GET[n : n + 1] for n in range(len(GET))))
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_preface_in_two_pieces_is_understood() -> None:
    async with running_front() as (_, port):
        answer = await _exchange(port, PREFACE[:3], PREFACE[3:])
        assert answer[3] == 4  # a SETTINGS frame


@pytest.mark.parametrize(
    "start",
    [
        b"PRX * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /nosuch HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01" + bytes(20),
    ],
    ids=["nearly the preface", "starts with P", "TLS on a plain port"],
)
async def test_what_is_no_preface_is_answered_as_http(start: bytes) -> None:
    async with running_front() as (_, port):
        assert (await _exchange(port, start)).startswith(b"HTTP/1.")


async def test_a_head_without_end_is_refused() -> None:
    async with running_front() as (_, port):
        answer = await _exchange(port, b"GET /" + b"x" * 20_000)
        assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))


@pytest.mark.parametrize("start", [b"", b"PRI * HTTP/2", b"GET /hello HTTP/1.1\r\n"])
async def test_a_connection_that_never_says_what_it_is_is_cut(start: bytes) -> None:
    async with running_front(head_timeout=0.1) as (front, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(start)
        await _is_cut(reader)
        writer.close()
        assert not front.opening


async def test_a_client_that_leaves_early_leaves_nothing() -> None:
    async with running_front() as (front, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await eventually(lambda: front.opening)
        writer.close()
        await eventually(lambda: not front.opening)


async def test_connections_that_say_nothing_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "MAX_OPENING", 2)
    async with running_front() as (front, port):
        quiet = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await eventually(lambda: len(front.opening) == 2)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await _is_cut(reader)
        for _, item in [*quiet, (reader, writer)]:
            item.close()
        await eventually(lambda: not front.opening)
        assert (await _exchange(port, GET)).startswith(b"HTTP/1.1 200 ")


async def test_grpc_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "MAX_GRPC", 0)
    async with running_front() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PREFACE)
        await _is_cut(reader)
        writer.close()


async def test_a_handler_ends_with_its_client() -> None:
    ended = asyncio.Event()

    async def wait(request: web.Request) -> web.Response:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return web.Response()

    app = application()
    app.router.add_get("/wait", wait)
    front = Front(app, {})
    port = await front.start("127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET.replace(b"/hello", b"/wait"))
    await asyncio.sleep(0.05)
    writer.close()
    async with asyncio.timeout(5):
        await ended.wait()
    await front.stop(0)


async def test_a_stop_refuses_new_connections_and_ends_old_ones() -> None:
    async with running_front() as (front, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        assert (await reader.read(100)).startswith(b"HTTP/1.1 200 ")
        await front.stop(0.1)
        await reader.read()
        assert reader.at_eof()
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_a_port_in_use_is_named() -> None:
    async with running_front() as (_, port):
        with pytest.raises(ConfigError, match=str(port)):
            await Front(application(), {}).start("127.0.0.1", port)
