"""The writing side of a trickle server: one POST of one segment."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.web_protocol import RequestPayloadError

from relay.errors import RelayError, UnsupportedMedia
from relay.protocols.trickle import answers
from relay.protocols.trickle.channel import Channel, Writer
from relay.protocols.trickle.straight import straight, taken

MAX_PAUSE: Final = 1.0
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

LINGER: Final = 5.0
"""Seconds that a body under way gets to end when its channel closes. A client that is
answered before stops sending; stock runners then never finish that segment, and die of it
some streams later."""


class Intake:
    """Appends the body of one request to its segment as it arrives.

    Attributes:
        last_byte: when a piece of the body came, monotonic seconds; None: nothing came yet.
        abandoned: after ``run``, the segment is half-written and nobody writes it.
        cut: after ``run``, the writer's connection was lost before the end of its request.
    """

    def __init__(
        self, channel: Channel, writer: Writer, request: web.Request, *, keepalive: float
    ) -> None:
        self._channel = channel
        self._writer = writer
        self._request = request
        self._keepalive = keepalive
        self._loop = asyncio.get_running_loop()
        self._deadline = asyncio.timeout(None)
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        self._refused: RelayError | None = None
        self.last_byte: float | None = None
        self.abandoned = False
        self.cut = False

    @property
    def broken(self) -> bool:
        """Whether the body can never end, since its framing broke on the way.

        aiohttp then tells the body nothing: it queues its refusal as if it were the next
        request, behind the one that waits for the rest.
        """
        content, protocol = self._request.content, self._request.protocol
        return bool(getattr(protocol, "_messages", ())) and not content.is_eof()

    async def run(self) -> web.StreamResponse:
        """Read the body to its end and answer.

        Early ends: the segment or the channel is closed by somebody else before the first
        byte; a bound is hit, and ``LINGER`` after the channel's closing is one; ``expire``
        is called; the writer vanishes.
        """
        segment = self._writer.segment
        if self._request.headers.get("Content-Encoding", "identity").lower() != "identity":
            self._writer.release()
            # The HTTP layer has unpacked it already, which would multiply its size.
            return _closing(answers.refusal(UnsupportedMedia("Content-Encoding is not taken")))
        segment.listen(self)
        self._arm()
        try:
            return await self._receive()
        finally:
            self._disarm()
            segment.unlisten(self)
            self.abandoned = self._writer.release()
            self.cut = self._request.transport is None and not self._request.content.is_eof()

    def expire(self) -> None:
        """Stop reading the body now and answer."""
        if self._running:
            self._running = False
            self._deadline.reschedule(self._loop.time())

    # Listener.

    def appended(self, data: bytes) -> None:
        pass

    def ended(self) -> None:
        if not self._writer.started:
            self.expire()
        elif self._channel.closed and self._running:
            self._deadline.reschedule(self._loop.time() + LINGER)

    # Steps of ``run``.

    async def _receive(self) -> web.StreamResponse:
        segment = self._writer.segment
        if segment.closed:
            return await self._early()
        if self._request.transport is None:
            raise ConnectionResetError
        try:
            async with self._deadline:
                self._running = True
                try:
                    await self._append()
                finally:
                    self._running = False
        except TimeoutError:
            if self._refused is not None:
                return _closing(answers.refusal(self._refused))
            if self.broken:
                return await self._last(answers.plain("Bad chunk\n", status=400))
            if not segment.closed:
                segment.close()
                return _closing(answers.plain("Segment stalled\n", status=408))
            return await self._early()
        except (ConnectionError, RequestPayloadError):
            # The segment stays open for a retry that goes on with it; see ``abandoned``.
            return _closing(answers.plain("Server error\n", status=500))
        except RelayError as error:
            return _closing(answers.refusal(error))
        response = self._done()
        if not self._writer.started:
            response.force_close()
        return response

    async def _append(self) -> None:
        content = self._request.content
        while True:
            data = await content.readany()
            if not data and content.at_eof():
                break
            if data and (pause := self._write(data)):
                # What is not read holds the writer back; see Limits.byte_rate.
                await asyncio.sleep(pause)
            if taken(content) and not content.at_eof():
                await self._append_rest(content)
                break
        self._writer.finish(time.monotonic())

    async def _append_rest(self, content: StreamReader) -> None:
        """The same without a switch of tasks for each piece."""
        if (error := content.exception()) is not None:
            raise error
        with straight(content, self._take):
            await content.wait_eof()
        if self._refused is not None:
            raise self._refused

    def _take(self, data: bytes) -> None:
        if self._refused is not None:
            return
        try:
            pause = self._write(data)
        except RelayError as error:
            self._refused = error
            self.expire()
            return
        if pause:
            self._request.protocol.pause_reading()
            self._loop.call_later(pause, self._resume)

    def _resume(self) -> None:
        if self._request.transport is not None:
            self._request.protocol.resume_reading()

    def _write(self, data: bytes) -> float:
        """Append; the seconds to wait before more is read.

        Raises:
            RelayError: a bound is hit.
        """
        if self.last_byte is None:
            self._disarm()
        self.last_byte = now = time.monotonic()
        self._writer.write(data, now)
        return min(self._channel.pause(len(data), now), MAX_PAUSE)

    async def _early(self) -> web.StreamResponse:
        """Answer before the body has ended."""
        response = _closing(self._done())
        if self._writer.started or self._request.content.total_bytes:
            # Bytes may be under way: the HTTP layer reads on for a while, so that the
            # answer is not lost in a reset.
            return response
        return await self._last(response)

    async def _last(self, response: web.Response) -> web.Response:
        """Answer and close, without waiting for a rest of the body."""
        response.force_close()
        await response.prepare(self._request)
        await response.write_eof()
        if self._request.transport is not None:
            self._request.transport.close()
        return response

    def _done(self) -> web.Response:
        headers = {answers.SEQ: str(self._writer.segment.sequence)}
        if self._channel.closed:
            headers[answers.CLOSED] = answers.TERMINATED
        return answers.empty(headers)

    def _arm(self) -> None:
        if self._request.version >= HttpVersion11:
            self._timer = self._loop.call_later(self._keepalive, self._continue)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _continue(self) -> None:
        # An interim answer may go out as often as one likes before the final one, and
        # keeps middle boxes from closing a connection on which nothing happens.
        transport = self._request.transport
        if transport is not None and not transport.is_closing():
            transport.write(_CONTINUE)
            self._arm()


def _closing(response: web.Response) -> web.Response:
    response.force_close()
    return response
