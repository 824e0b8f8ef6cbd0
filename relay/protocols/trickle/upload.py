"""One segment on its way out: written without waiting, sent as it is written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum
from typing import Final

from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter
from aiohttp.payload import Payload

from relay.errors import PeerError, RelayError
from relay.states import StateMachine

log = logging.getLogger(__name__)


ABORTED: Final = "segment_aborted"
"""Code of the error of a segment that its own writer gave up."""


class Upload(Enum):
    """The life of a segment: open, then ended by us, then answered; or lost on the way."""

    OPEN = "open"
    ENDED = "ended"
    ANSWERED = "answered"
    LOST = "lost"


_TABLE: Final = {
    Upload.OPEN: frozenset({Upload.ENDED, Upload.ANSWERED, Upload.LOST}),
    Upload.ENDED: frozenset({Upload.ANSWERED, Upload.LOST}),
    Upload.ANSWERED: frozenset[Upload](),
    Upload.LOST: frozenset[Upload](),
}
_QUIET: Final = logging.getLogger(f"{__name__}.segments")
_QUIET.setLevel(logging.WARNING)


class SegmentWriter:
    """Takes the bytes of one segment; nothing in it ever waits for the network.

    Attributes:
        sequence: its number.
        touched: a byte of it has been given to a socket, so it cannot be sent anew.
    """

    def __init__(
        self, sequence: int, max_buffer: int, *, on_change: Callable[[SegmentWriter], None]
    ) -> None:
        self.sequence = sequence
        self.touched = False
        self._max_buffer = max_buffer
        self._on_change_of = on_change
        self._transport: asyncio.WriteTransport | None = None
        self._queue: list[bytes] = []
        self._queued = 0
        loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[None] = loop.create_future()
        self._body_done: asyncio.Future[None] = loop.create_future()
        self._settled: asyncio.Future[None] = loop.create_future()
        self._error: RelayError | None = None
        self._machine = StateMachine(
            f"trickle segment {sequence}",
            Upload.OPEN,
            _TABLE,
            log=_QUIET,
            on_change=self._on_change,
        )

    @property
    def state(self) -> Upload:
        return self._machine.state

    @property
    def error(self) -> RelayError | None:
        """Why it was lost."""
        return self._error

    def write(self, data: bytes) -> bool:
        """Send ``data`` now, or as soon as there is a connection.

        Returns:
            False when it is not taken: the segment has ended or is lost. Too much waiting
            for a slow socket loses it: the rest is dropped and the server is told.
        """
        if self.state is not Upload.OPEN:
            return False
        transport = self._transport
        if transport is None:
            if self._queued + len(data) > self._max_buffer:
                self._overflow()
                return False
            self._queue.append(data)
            self._queued += len(data)
            return True
        if transport.is_closing():
            return False
        if transport.get_write_buffer_size() + len(data) > self._max_buffer:
            self._overflow()
            return False
        self._send(transport, data)
        return True

    def end(self) -> None:
        """The segment is complete."""
        if self.state is Upload.OPEN:
            self._machine.to(Upload.ENDED)

    def abort(self) -> None:
        """Give the segment up: the connection is cut and the server is told to close it."""
        self.lose(PeerError(f"segment {self.sequence} was aborted", code=ABORTED))

    async def wait_answered(self) -> None:
        """Wait for the server's answer.

        Raises:
            RelayError: the segment was lost.
        """
        await asyncio.shield(self._settled)
        if self._error is not None:
            raise self._error

    async def wait_connected(self) -> None:
        """Wait until the request is on the wire, or the segment is over for some reason."""
        await asyncio.wait({self._connected, self._settled}, return_when=asyncio.FIRST_COMPLETED)

    # What the publisher does.

    def attach(self, transport: asyncio.WriteTransport) -> None:
        """The request's headers are out on ``transport``; its body follows."""
        self._transport = transport
        if not self._connected.done():
            self._connected.set_result(None)
        for data in self._queue:
            self._send(transport, data)
        self._queue.clear()
        self._queued = 0

    def detach(self) -> None:
        """The connection was lost before a byte went out; another one will come."""
        self._transport = None

    def answered(self) -> None:
        if self.state in (Upload.OPEN, Upload.ENDED):
            self._machine.to(Upload.ANSWERED)

    def lose(self, error: RelayError) -> None:
        if self.state in (Upload.OPEN, Upload.ENDED):
            self._error = error
            self._machine.to(Upload.LOST, str(error))

    async def body_done(self) -> None:
        """Wait until the last byte has been written; for ever when the segment is lost."""
        await asyncio.shield(self._body_done)

    def _send(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        if data:
            self.touched = True
            transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _overflow(self) -> None:
        self.lose(PeerError(f"segment {self.sequence} is not taken fast enough", code="too_slow"))

    def _on_change(self, _old: Upload, new: Upload) -> None:
        if new is Upload.ENDED:
            self._body_done.set_result(None)
        else:
            self._queue.clear()
            self._queued = 0
            self._settled.set_result(None)
        if new is Upload.LOST and self._transport is not None:
            # A clean end would make half a segment look whole.
            self._transport.abort()
        self._on_change_of(self)


class SegmentBody(Payload):
    """The body of the POST of a segment: headers at once, then pieces as they are written.

    The HTTP client would hold the headers back until the first piece. A preconnected POST is
    worth nothing then, so they are sent first; the pieces go straight to the transport.
    """

    def __init__(self, segment: SegmentWriter, mime: str) -> None:
        super().__init__(segment, content_type=mime)
        self._segment = segment

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a segment is sent while it is made")

    async def write(self, writer: AbstractStreamWriter) -> None:
        assert isinstance(writer, StreamWriter)
        writer.send_headers()
        transport = writer.transport
        if transport is None:
            raise ConnectionResetError("connection lost before the headers were sent")
        self._segment.attach(transport)
        await self._segment.body_done()
