"""HTTP/1.1 by hand, so that tests see what is on the wire and when."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl as tls
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from relay.protocols.trickle.channel import Limits
from relay.protocols.trickle.server import TrickleServer


@dataclass
class Answer:
    status_line: str
    headers: dict[str, str]
    body: bytes = b""
    interim: int = 0
    chunks: list[bytes] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.status_line.split()[1])


class Connection:
    """One connection; requests go out as given, answers are read piece by piece."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def request(self, method: str, path: str, *headers: str, body: bytes = b"") -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: test", *headers]
        await self.send("\r\n".join([*lines, "", ""]).encode() + body)

    async def post(self, path: str, *headers: str) -> None:
        """Begin a chunked POST; pieces follow by ``piece``."""
        await self.request("POST", path, "Transfer-Encoding: chunked", *headers)

    async def piece(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def head(self, within: float = 5.0) -> Answer:
        """The next final status line and headers; interim answers are counted."""
        interim = 0
        while True:
            raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), within)
            first, *rest = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
            if first.split()[1] == "100":
                interim += 1
                continue
            pairs = (line.split(": ", 1) for line in rest)
            return Answer(first, {name.lower(): value for name, value in pairs}, interim=interim)

    async def chunk(self, within: float = 5.0) -> bytes:
        """The next piece of a chunked body; empty at its end."""
        size = int(await asyncio.wait_for(self.reader.readuntil(b"\r\n"), within), 16)
        data = await asyncio.wait_for(self.reader.readexactly(size + 2), within)
        return data[:-2]

    async def answer(self, within: float = 5.0, *, method: str = "GET") -> Answer:
        """A whole answer."""
        answer = await self.head(within)
        if method == "HEAD":
            return answer
        if answer.headers.get("transfer-encoding") == "chunked":
            while piece := await self.chunk(within):
                answer.chunks.append(piece)
            answer.body = b"".join(answer.chunks)
        elif "content-length" in answer.headers:
            length = int(answer.headers["content-length"])
            answer.body = await asyncio.wait_for(self.reader.readexactly(length), within)
        else:
            answer.body = await asyncio.wait_for(self.reader.read(), within)
        return answer

    async def closed(self, within: float = 5.0) -> bool:
        """Whether the other side closes, with nothing more sent."""
        try:
            return await asyncio.wait_for(self.reader.read(1), within) == b""
        except ConnectionError:
            return True

    async def silent(self, during: float = 0.05) -> bool:
        """Whether nothing arrives for a moment."""
        try:
            await asyncio.wait_for(self.reader.read(1), during)
        except TimeoutError:
            return True
        return False

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def abort(self) -> None:
        self.writer.transport.abort()


class Complaints(logging.Handler):
    """Keeps what the HTTP server says went wrong in a handler."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        if kind is not None and issubclass(kind, HttpProcessingError):
            # What a client sent was no HTTP, which some tests want.
            return
        self.heard.append(f"{record.getMessage()}: {record.exc_info}")


class Site:
    """A trickle server on a free port of loopback, and the connections to it."""

    def __init__(self, server: TrickleServer, runner: web.AppRunner, scheme: str) -> None:
        self.server = server
        self.runner = runner
        self.port = port = runner.addresses[0][1]
        self.base = f"{scheme}://127.0.0.1:{port}{server.base_path}"
        self.connections: list[Connection] = []

    async def connect(self) -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        connection = Connection(reader, writer)
        self.connections.append(connection)
        return connection

    async def ask(self, method: str, path: str, *headers: str, body: bytes = b"") -> Answer:
        """One request on a connection of its own."""
        connection = await self.connect()
        if body:
            headers = (*headers, f"Content-Length: {len(body)}")
        await connection.request(method, path, *headers, body=body)
        answer = await connection.answer(method=method)
        await connection.close()
        return answer


@contextlib.asynccontextmanager
async def serve(
    *,
    base_path: str = "/t/",
    autocreate: bool = False,
    tokens: bool = False,
    limits: Limits | None = None,
    ssl: tls.SSLContext | None = None,
) -> AsyncIterator[Site]:
    """A server that must not have logged one error when the test is over."""
    server = TrickleServer(base_path=base_path, autocreate=autocreate, tokens=tokens, limits=limits)
    complaints = Complaints()
    logging.getLogger("aiohttp.server").addHandler(complaints)
    app = web.Application()
    server.attach(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    tcp = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl)
    await tcp.start()
    sweeper = asyncio.create_task(server.run())
    site = Site(server, runner, "https" if ssl else "http")
    try:
        yield site
    finally:
        for connection in site.connections:
            connection.abort()
        sweeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sweeper
        await runner.cleanup()
        logging.getLogger("aiohttp.server").removeHandler(complaints)
    assert complaints.heard == []


@contextlib.asynccontextmanager
async def scripted(
    script: Callable[[Connection], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that does with each connection what ``script`` says; yields a channel's URL."""
    running: set[asyncio.Task[None]] = set()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await script(Connection(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            running.discard(task)
            writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/t/ch"
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def until(condition: Callable[[], bool], within: float = 5.0) -> None:
    """Wait until ``condition()`` is true; for state that tells nobody when it changes."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
