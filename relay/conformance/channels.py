"""What a trickle case works with: a server, and channels on it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl as tls
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from relay.conformance.case import NotOffered, Unusable, no_answer, same
from relay.conformance.wire import Answer, Connection

SEQ: Final = "lp-trickle-seq"
LATEST: Final = "lp-trickle-latest"
CLOSED: Final = "lp-trickle-closed"
RESET: Final = "Lp-Trickle-Reset: 1"
MIME: Final = "video/MP2T"
SLOTS: Final = 5
"""Segments that a channel keeps."""

MIN_PATIENCE: Final = 0.05


@dataclass(slots=True)
class Target:
    """A trickle server.

    Attributes:
        path: base path with its slash.
        given: paths of channels that are there already; used where it creates none.
        creates: whether a POST to a channel's path makes it.
        patience: seconds after which something that should not come has not come, and
            after which the server has surely seen what was sent.
        token: goes with every request, where there is one.
    """

    host: str
    port: int
    path: str
    ssl: tls.SSLContext | None = None
    given: Sequence[str] = ()
    creates: bool = True
    patience: float = 0.1
    token: str | None = field(default=None, repr=False)

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    async def connect(self) -> Connection:
        lines = [f"Host: {self.authority}"]
        if self.token:
            lines.append(f"Authorization: Bearer {self.token}")
        return await Connection.open(self.host, self.port, self.ssl, *lines)


async def find(
    url: str,
    channels: Sequence[str],
    ssl: tls.SSLContext | None,
    *,
    token: str | None = None,
) -> Target:
    """Look whether a server is there, and whether it makes channels.

    Raises:
        Unusable: it cannot be reached, makes no channel and none is named, or asks for a
            token and there is none.
    """
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise Unusable(f"{url} is no address: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unusable(f"{url} is no http:// or https:// address")
    given = []
    for channel in channels:
        named = urlsplit(channel)
        if named.netloc not in ("", parts.netloc):
            raise Unusable(f"--channel {channel} is not on the server of {url}")
        given.append(named.path.rstrip("/") if "/" in named.path else f"{parts.path}/{channel}")
    target = Target(
        parts.hostname,
        port,
        f"/{parts.path.strip('/')}/".replace("//", "/"),
        ssl if parts.scheme == "https" else None,
        given,
        token=token,
    )
    name = secrets.token_hex(8)
    began = time.monotonic()
    try:
        async with bench(target) as one:
            made = await one.ask("POST", f"{target.path}{name}", f"Expect-Content: {MIME}")
            target.patience = max(MIN_PATIENCE, 3 * (time.monotonic() - began))
            target.creates = made.status == 200
            if target.creates:
                await one.ask("DELETE", f"{target.path}{name}")
    except (OSError, EOFError, TimeoutError, ValueError, LookupError) as error:
        raise no_answer(url, error) from error
    if made.status == 401 or (made.status == 403 and not given):
        raise Unusable(f"{url} answers {made.status}: give its token by --token")
    if not target.creates and not given:
        raise Unusable(
            f"{url} makes no channel (it answered {made.status}): name one with --channel, "
            "or try --self"
        )
    return target


class Channel:
    """One channel; ``start`` is the number of its next segment when the case began."""

    def __init__(self, bench: Trickle, path: str, start: int) -> None:
        self._bench = bench
        self.path = path
        self.start = start

    def at(self, sequence: int | str) -> str:
        return f"{self.path}/{sequence}"

    async def open(self, sequence: int, *headers: str) -> Connection:
        """Begin a POST without a byte of body; the server has seen it on return."""
        connection = await self._bench.connect()
        await connection.request("POST", self.at(sequence), "Transfer-Encoding: chunked", *headers)
        await self._bench.settle()
        return connection

    async def write(self, sequence: int, data: bytes, *headers: str) -> Answer:
        """A whole segment; raises Failed unless it is answered with 200."""
        if not any(header.startswith("Content-Type:") for header in headers):
            headers = (f"Content-Type: {MIME}", *headers)
        answer = await self._bench.ask("POST", self.at(sequence), *headers, body=data)
        same("POST", answer.status, 200)
        return answer

    async def get(self, sequence: int, *headers: str) -> Connection:
        """Begin a GET; the server has seen it on return."""
        connection = await self._bench.connect()
        await connection.request("GET", self.at(sequence), *headers)
        await self._bench.settle()
        return connection

    async def read(self, sequence: int, *headers: str) -> Answer:
        return await self._bench.ask("GET", self.at(sequence), *headers)

    async def next(self) -> int:
        answer = await self._bench.ask("GET", self.at("next"))
        same("GET next", answer.status, 200)
        return int(answer.body)

    async def delete(self, sequence: int | None = None) -> Answer:
        path = self.path if sequence is None else self.at(sequence)
        return await self._bench.ask("DELETE", path)


@dataclass(slots=True)
class Trickle:
    """What one case holds; all of it is closed behind the case."""

    target: Target
    _connections: list[Connection] = field(default_factory=list)
    _made: list[str] = field(default_factory=list)

    async def connect(self) -> Connection:
        connection = await self.target.connect()
        self._connections.append(connection)
        return connection

    async def ask(
        self,
        method: str,
        path: str,
        *headers: str,
        body: bytes | None = None,
        within: float | None = None,
    ) -> Answer:
        """One request on a connection of its own."""
        connection = await self.connect()
        if body is not None or method == "POST":
            headers = (*headers, f"Content-Length: {len(body or b'')}")
        await connection.request(method, path, *headers, body=body or b"")
        answer = await connection.answer(within, bodyless=method == "HEAD")
        connection.abort()
        self._connections.remove(connection)
        return answer

    async def settle(self) -> None:
        """Let the server see what was sent on other connections."""
        await asyncio.sleep(self.target.patience)

    async def fresh(self, mime: str = MIME) -> Channel:
        """A channel of the case's own, without a segment.

        Raises:
            NotOffered: the server makes none.
        """
        if not self.target.creates:
            raise NotOffered("the server makes no channels")
        path = f"{self.target.path}{secrets.token_hex(8)}"
        answer = await self.ask("POST", path, f"Expect-Content: {mime}")
        same("create", answer.status, 200)
        self._made.append(path)
        return Channel(self, path, 0)

    async def channel(self) -> Channel:
        """A channel that may have been used before: by its ``start`` it does not matter."""
        if self.target.creates:
            return await self.fresh()
        channel = Channel(self, self.target.given[0], 0)
        channel.start = await channel.next()
        return channel

    def absent(self) -> str:
        """The path of a channel that is not there."""
        return f"{self.target.path}{secrets.token_hex(8)}"

    async def close(self) -> None:
        for connection in self._connections:
            connection.abort()
        with contextlib.suppress(OSError, EOFError, TimeoutError, ValueError):
            for path in self._made:
                await self.ask("DELETE", path)
        for connection in self._connections:
            connection.abort()


@contextlib.asynccontextmanager
async def bench(target: Target) -> AsyncIterator[Trickle]:
    one = Trickle(target)
    try:
        yield one
    finally:
        await one.close()
