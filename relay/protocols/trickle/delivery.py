"""The reading side of a trickle server: one GET of one segment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Final

from aiohttp import HttpVersion11, web

from relay.protocols.trickle import answers
from relay.protocols.trickle.channel import Channel, Reading
from relay.protocols.trickle.segment import Cursor

_PIECE: Final = 64 * 1024
_ENOUGH: Final = 64 * 1024
"""Bytes that may wait in a reader's socket before its bytes are left in the segment."""


class Delivery:
    """Sends one segment to one reader: what is there, then each byte as it comes.

    A reader that keeps up is written to by the writer's own call, without a task switch. One
    that does not keep up reads from the segment at the pace of its socket.

    Attributes:
        channel: whose segment it is.
        stuck_since: since when a byte waits for the reader's socket; None: none does.
    """

    def __init__(self, channel: Channel, reading: Reading, request: web.Request) -> None:
        self.channel = channel
        self._segment = reading.segment
        self._was_next = reading.was_next
        self._request = request
        self._transport = request.transport
        self._head_only = request.method == "HEAD"
        self._framed = request.version >= HttpVersion11
        self._cursor = Cursor()
        self._wake: asyncio.Future[None] | None = None
        self._following = False
        self.stuck_since: float | None = None

    @property
    def gone(self) -> bool:
        """The reader has left."""
        return self._transport is None or self._transport.is_closing()

    async def run(self) -> web.StreamResponse:
        """Answer the request; returns when the segment has ended or the reader is gone."""
        self._segment.listen(self)
        try:
            if not self._segment.decided:
                await self._wait()
            if self._segment.size == 0:
                return answers.empty(self._headers(ended=True))
            response = web.StreamResponse(headers=self._headers(ended=False))
            await response.prepare(self._request)
            if not self._head_only:
                await self._stream(response)
            if not self.gone:
                await self._unless_stuck(response.write_eof())
            return response
        finally:
            self._segment.unlisten(self)

    def wake(self) -> None:
        """Let the request look at its segment and its socket again."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def abort(self) -> None:
        """Cut the reader off, also when its socket takes nothing."""
        if self._transport is not None:
            self._transport.abort()
        self.wake()

    # Listener.

    def appended(self, data: bytes) -> None:
        transport = self._transport
        if (
            not self._following
            or transport is None
            or transport.is_closing()
            or transport.get_write_buffer_size() > _ENOUGH
        ):
            self._following = False
            self.wake()
            return
        self._segment.skip(self._cursor)
        if self._framed:
            # In one piece: a record of TLS more, on either side, costs more than the copy.
            transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            transport.write(data)

    def ended(self) -> None:
        self.wake()

    # Steps of ``run``.

    def _headers(self, *, ended: bool) -> dict[str, str]:
        headers = {answers.SEQ: str(self._segment.sequence)}
        if not ended:
            headers["Content-Type"] = self.channel.mime
        if ended or not self._was_next:
            headers[answers.LATEST] = str(self.channel.next_write)
        if ended and self.channel.closed:
            headers[answers.CLOSED] = answers.TERMINATED
        return headers

    async def _stream(self, response: web.StreamResponse) -> None:
        segment = self._segment
        while not self.gone:
            if data := segment.read(self._cursor, _PIECE):
                await self._unless_stuck(response.write(data))
            elif segment.closed:
                return
            else:
                self._following = True
                try:
                    await self._wait()
                finally:
                    self._following = False

    async def _unless_stuck(self, sending: Coroutine[None, None, None]) -> None:
        self.stuck_since = time.monotonic()
        await sending
        self.stuck_since = None

    async def _wait(self) -> None:
        if self.gone:
            return
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None
