"""Connections that take the bytes too slowly, and what leaves on those that do not."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from aiohttp import web
from aiohttp.client_proto import ResponseHandler
from aiohttp.web_protocol import RequestHandler

from relay.protocols.trickle import client
from relay.protocols.trickle import publisher as module
from relay.protocols.trickle.client import open_session
from relay.protocols.trickle.publisher import TricklePublisher
from relay.protocols.trickle.server import TrickleServer
from relay.protocols.trickle.subscriber import TrickleSubscriber
from relay.protocols.trickle.upload import TOO_SLOW, SegmentWriter, Upload
from relay.rpc.front import Front
from tests.protocols.trickle.test_tls import certificate, serving
from tests.protocols.trickle.wire import Connection, scripted, serve, until

PIECE = 20_000
MAX_AGE = 0.2


@pytest.fixture(autouse=True)
def _short_goodbyes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CLOSE_WITHIN", 0.1)
    monkeypatch.setattr(client, "_DELETE_WITHIN", 0.2)


class Lazy:
    """Takes connections, and reads of each as much as it is told."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self.got: list[bytearray] = []
        self.broken = 0

    async def serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = bytearray()
        self.got.append(got)
        try:
            got += await reader.readuntil(b"\r\n\r\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await self.reading.wait()
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            while data := await reader.read(1 << 16):
                got += data
        except (ConnectionError, asyncio.IncompleteReadError):
            self.broken += 1
        finally:
            writer.close()


@asynccontextmanager
async def lazy(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Lazy, str]]:
    one, tasks = Lazy(), set[asyncio.Task[None]]()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await one.serve_one(reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    scheme = "http" if tls is None else "https"
    try:
        yield one, f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/ch"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def flood(writer: SegmentWriter) -> int:
    """Pieces until one is not taken; how many were."""
    for taken in range(5000):
        if not writer.write(b"%08d" % taken + bytes(PIECE - 8), 1):
            return taken
        await asyncio.sleep(0.005)
    raise AssertionError("everything was taken")


@pytest.mark.parametrize("encrypted", [False, True])
async def test_what_waits_too_long_is_never_sent(tmp_path: Path, encrypted: bool) -> None:
    tls = serving(certificate(tmp_path)) if encrypted else None
    async with lazy(tls) as (server, url), open_session() as session:
        publisher = TricklePublisher(session, url, ssl=not encrypted, max_age=MAX_AGE)
        lost: list[SegmentWriter] = []
        publisher.on_lost = lost.append
        await publisher.open()
        writer = publisher.begin()
        taken = await flood(writer)
        assert lost == [writer]
        assert writer.error is not None
        assert writer.error.code == TOO_SLOW
        assert writer.dropped > 0
        server.reading.set()
        await until(lambda: server.broken > 0)
        body = server.got[0].split(b"\r\n\r\n", 1)[1]
        came = len(body) // PIECE
        # What left before it was too old may come; the rest was still ours, and is not sent.
        assert came + 1 <= taken
        # (The bytes that TLS adds make it seem a little more.)
        assert taken - came + 2 >= writer.dropped
        assert b"\r\n0\r\n" not in body[-7:], "it does not look whole"
        await publisher.close()


async def test_a_short_stop_loses_nothing() -> None:
    async with lazy() as (server, url), open_session() as session:
        publisher = TricklePublisher(session, url, max_age=30.0)
        await publisher.open()
        writer = publisher.begin()
        for _ in range(400):
            assert writer.write(bytes(PIECE), 1)
        await asyncio.sleep(0.1)
        server.reading.set()
        writer.end()
        await until(lambda: server.got[0].endswith(b"\r\n0\r\n\r\n"))
        assert len(server.got[0]) > 400 * PIECE
        assert writer.state is Upload.ENDED
        await publisher.close()


async def test_the_end_of_a_segment_waits_no_longer_and_the_next_one_is_there() -> None:
    async with lazy() as (_, url), open_session() as session:
        publisher = TricklePublisher(session, url, max_age=MAX_AGE)
        lost: list[int] = []
        publisher.on_lost = lambda writer: lost.append(writer.sequence)
        await publisher.open()
        first = publisher.begin()
        for _ in range(400):
            first.write(bytes(PIECE), 1)
        first.end()
        second = publisher.begin()
        assert second.write(b"key frame", 1)
        await until(lambda: lost == [0])
        assert first.dropped > 0
        assert second.write(b"goes on", 1)
        await publisher.close()


async def test_bytes_that_leave_are_never_too_old() -> None:
    async with serve() as site, open_session() as session:
        site.server.create("ch", "video/MP2T")
        publisher = TricklePublisher(session, site.base + "ch", max_age=0.1)
        await publisher.open()
        writer = publisher.begin()
        assert writer.write(bytes(1 << 20), 1)
        await asyncio.sleep(0.3)  # longer than a byte may wait
        assert writer.write(b"x", 1)
        writer.end()
        await writer.wait_answered()
        assert publisher.lost == 0
        await publisher.close()


async def test_each_write_leaves_by_itself_and_at_once() -> None:
    reads: list[bytes] = []

    async def script(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        while data := await connection.reader.read(1 << 20):
            reads.append(data)

    units = [bytes([n]) * (300 + 100 * n) for n in range(20)]
    async with scripted(script) as url, open_session() as session:
        publisher = TricklePublisher(session, url, max_age=MAX_AGE)
        await publisher.open()
        writer = publisher.begin()
        for n, unit in enumerate(units):
            writer.write(unit, 1)
            await until(lambda n=n: len(reads) == n + 1)  # type: ignore[misc]
        assert reads == [b"%x\r\n%b\r\n" % (len(unit), unit) for unit in units]
        await publisher.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("encrypted", [False, True])
def test_no_connection_waits_for_more_to_send(
    tmp_path: Path,
    encrypted: bool,
    loop: Callable[[], asyncio.AbstractEventLoop],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nagle: list[int] = []

    def watch(protocol: Any) -> None:
        inner = protocol.connection_made

        def made(self: Any, transport: asyncio.Transport) -> None:
            inner(self, transport)
            sock = transport.get_extra_info("socket")
            nagle.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

        monkeypatch.setattr(protocol, "connection_made", made)

    watch(ResponseHandler)
    watch(RequestHandler)
    tls = serving(certificate(tmp_path)) if encrypted else None

    async def run() -> None:
        server = TrickleServer(base_path="/t/", autocreate=True)
        app = web.Application()
        server.attach(app)
        front = Front(app, {}, tls)  # the port of a real node
        port = await front.start("127.0.0.1", 0)
        url = f"{'https' if encrypted else 'http'}://127.0.0.1:{port}/t/ch"
        server.create("ch", "video/MP2T")
        async with open_session() as session:
            publisher = TricklePublisher(session, url, ssl=not encrypted)
            subscriber = TrickleSubscriber(session, url, start=0, ssl=not encrypted)
            await publisher.open()
            publisher.begin().write(b"one")
            segment = await anext(subscriber)
            assert await anext(segment) == b"one"
            await until(lambda: server.activity("ch").readers == 2)
            await subscriber.close()
            await publisher.close()
        await front.stop(0.1)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())
    assert len(nagle) >= 8, "both ends of two POSTs and two GETs"
    assert all(nagle)


# --- the reading side ---------------------------------------------------------------------


def answer(sequence: int) -> bytes:
    return (
        f"HTTP/1.1 200 OK\r\nLp-Trickle-Seq: {sequence}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()


async def without_end(connection: Connection) -> None:
    """Segment 0 never ends, though 1 is there; 2 never begins."""
    head = await connection.reader.readuntil(b"\r\n\r\n")
    sequence = int(head.split()[1].rsplit(b"/", 1)[1])
    if sequence == 2:
        await connection.reader.read()
        return
    await connection.send(answer(sequence))
    if sequence == 1:
        await connection.piece(b"newer")
        await connection.end()
        await connection.reader.read()
        return
    while True:
        await connection.piece(b"old")
        await asyncio.sleep(0.01)


async def taking(url: str, session: aiohttp.ClientSession, *, pour: bool) -> list[bytes]:
    got: list[bytes] = []
    subscriber = TrickleSubscriber(session, url, start=0, max_behind=0.1)
    async with asyncio.timeout(5):
        for n in range(2):
            segment = await anext(subscriber)
            if pour:
                await segment.pour(got.append)
            else:
                got += [data async for data in segment]
            assert segment.truncated is (n == 0)
    assert subscriber.left == 1
    await subscriber.close()
    return got


@pytest.mark.parametrize("pour", [False, True])
async def test_the_rest_of_a_segment_is_left_for_a_newer_one(pour: bool) -> None:
    async with scripted(without_end) as url, open_session() as session:
        got = await taking(url, session, pour=pour)
    assert b"".join(got).startswith(b"oldold")
    assert got[-1] == b"newer"


async def test_a_segment_that_is_read_in_time_is_read_whole() -> None:
    async with serve() as site, open_session() as session:
        site.server.create("ch", "video/MP2T")
        subscriber = TrickleSubscriber(session, site.base + "ch", start=0, max_behind=0.05)
        publisher = TricklePublisher(session, site.base + "ch")
        await publisher.open()
        got = bytearray()
        for n in range(4):
            writer = publisher.begin()
            writer.write(b"a%d" % n)
            segment = await anext(subscriber)
            pouring = asyncio.create_task(segment.pour(got.extend))
            await asyncio.sleep(0.1)
            writer.write(b"b%d" % n)
            writer.end()
            await pouring
            assert not segment.truncated
        assert got == b"a0b0a1b1a2b2a3b3"
        assert subscriber.left == 0
        await subscriber.close()
        await publisher.close()


@pytest.mark.parametrize("error", [ZeroDivisionError, ConnectionResetError])
async def test_what_the_taker_raises_comes_out_where_it_is_read(error: type[Exception]) -> None:
    async with scripted(without_end) as url, open_session() as session:
        subscriber = TrickleSubscriber(session, url, start=0, max_behind=5.0)
        segment = await anext(subscriber)
        seen: list[bytes] = []

        def refuse(data: bytes) -> None:
            seen.append(data)
            if len(seen) == 3:
                raise error

        with pytest.raises(error):
            await segment.pour(refuse)
        assert segment.truncated
        assert len(seen) == 3
        await subscriber.close()


async def test_a_connection_that_is_cut_ends_a_pour() -> None:
    async def script(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        await connection.send(answer(0))
        await connection.piece(b"half")
        await asyncio.sleep(0.05)
        connection.abort()

    async with scripted(script) as url, open_session() as session:
        subscriber = TrickleSubscriber(session, url, start=0, max_behind=5.0)
        segment = await anext(subscriber)
        got: list[bytes] = []
        async with asyncio.timeout(5):
            await segment.pour(got.append)
        assert got == [b"half"]
        assert segment.truncated
        await subscriber.close()
