"""HTTP/1.1 by hand: what is on the wire, and when, which no client library shows."""

from __future__ import annotations

import asyncio
import contextlib
import ssl as tls
from dataclasses import dataclass, field
from typing import Final

WAIT = 4.0
"""Seconds for anything that should come at once."""

MAX_HEAD: Final = 1 << 20


def _limit(within: float | None) -> float:
    return WAIT if within is None else within


@dataclass(slots=True)
class Answer:
    """A final answer; header names in lower case.

    Attributes:
        interim: how many ``100 Continue`` came before it.
        chunks: of a chunked body, as they were framed.
    """

    status: int
    headers: dict[str, str]
    body: bytes = b""
    interim: int = 0
    chunks: list[bytes] = field(default_factory=list)


class Connection:
    """One connection; requests go out as given, answers are read piece by piece."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *lines: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._lines = lines

    @classmethod
    async def open(
        cls, host: str, port: int, ssl: tls.SSLContext | None, *lines: str
    ) -> Connection:
        """``lines`` are headers of each request, ``Host`` among them."""
        async with asyncio.timeout(WAIT):
            reader, writer = await asyncio.open_connection(host, port, ssl=ssl, limit=MAX_HEAD)
        return cls(reader, writer, *lines)

    async def send(self, data: bytes, within: float | None = None) -> None:
        self._writer.write(data)
        await asyncio.wait_for(self._writer.drain(), _limit(within))

    async def request(self, method: str, path: str, *headers: str, body: bytes = b"") -> None:
        lines = [f"{method} {path} HTTP/1.1", *self._lines, *headers]
        await self.send("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body)

    async def piece(self, data: bytes) -> None:
        """A chunk of a chunked body."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        """The end of a chunked body."""
        await self.send(b"0\r\n\r\n")

    async def finish(self, within: float | None = None) -> Answer:
        await self.end()
        return await self.answer(within)

    async def interim(self, within: float | None = None) -> int:
        """The status of the next answer, which may be an interim one."""
        raw = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), _limit(within))
        return int(raw.split(None, 2)[1])

    async def head(self, within: float | None = None) -> Answer:
        """The next final status and headers."""
        interim = 0
        while True:
            raw = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), _limit(within))
            first, *rest = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
            status = int(first.split()[1])
            if 100 <= status < 200:
                interim += 1
                continue
            pairs = (line.partition(":") for line in rest)
            return Answer(
                status, {name.lower(): value.strip() for name, _, value in pairs}, interim=interim
            )

    async def chunk(self, within: float | None = None) -> bytes:
        """The next piece of a chunked body; empty at its end."""
        size = int(await asyncio.wait_for(self._reader.readuntil(b"\r\n"), _limit(within)), 16)
        data = await asyncio.wait_for(self._reader.readexactly(size + 2), _limit(within))
        return data[:-2]

    async def bytes(self, count: int, within: float | None = None) -> bytes:
        """Of a chunked body, the next ``count`` bytes or less at its end, however framed."""
        got = b""
        while len(got) < count and (piece := await self.chunk(within)):
            got += piece
        return got

    async def answer(self, within: float | None = None, *, bodyless: bool = False) -> Answer:
        """A whole answer; ``bodyless`` for that to HEAD."""
        answer = await self.head(within)
        headers = answer.headers
        if bodyless or answer.status in (204, 304):
            return answer
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while piece := await self.chunk(within):
                answer.chunks.append(piece)
            answer.body = b"".join(answer.chunks)
        elif "content-length" in headers:
            length = int(headers["content-length"])
            answer.body = await asyncio.wait_for(self._reader.readexactly(length), _limit(within))
        else:
            answer.body = await asyncio.wait_for(self._reader.read(), _limit(within))
        return answer

    async def silent(self, during: float) -> bool:
        """Whether nothing arrives for a while; what arrives is lost."""
        try:
            await asyncio.wait_for(self._reader.read(1), during)
        except TimeoutError:
            return True
        return False

    async def closes(self, within: float | None = None) -> bool:
        """Whether the other side closes, whatever it says before."""
        with contextlib.suppress(ConnectionError):
            try:
                async with asyncio.timeout(_limit(within)):
                    while await self._reader.read(65536):
                        pass
            except TimeoutError:
                return False
        return True

    async def says(self, within: float | None = None) -> int | None:
        """The status of the answer, None when the connection ends without one.

        Raises:
            TimeoutError: neither.
        """
        try:
            return (await self.head(within)).status
        except (EOFError, ConnectionError):
            return None

    def half_close(self) -> None:
        if self._writer.can_write_eof():
            self._writer.write_eof()

    def abort(self) -> None:
        """Vanish."""
        self._writer.transport.abort()
