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
from relay.protocols.trickle.backlog import Backlog
from relay.protocols.trickle.outgoing import take_back, waiting
from relay.states import StateMachine

log = logging.getLogger(__name__)


ABORTED: Final = "segment_aborted"
"""Code of the error of a segment that its own writer gave up."""

TOO_SLOW: Final = "too_slow"
"""Code of the error of a segment that its connection did not carry in time."""

LOOK: Final = 0.5
"""Of ``max_age``, between two looks at what waits while nothing does: what is found waiting is
looked at again when it is too old, to the moment."""


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

    Args:
        max_buffer: bytes that may wait; more loses the segment.
        max_age: seconds that a byte may wait; longer loses it too. None: for ever.

    Attributes:
        sequence: its number.
        touched: a byte of it has been given to a socket, so it cannot be sent anew.
        dropped: what had not left when it was lost, by the counts of its writes.
    """

    def __init__(
        self,
        sequence: int,
        max_buffer: int,
        *,
        on_change: Callable[[SegmentWriter], None],
        max_age: float | None = None,
    ) -> None:
        self.sequence = sequence
        self.touched = False
        self.dropped = 0
        self._max_buffer = max_buffer
        self._backlog = Backlog(max_age) if max_age is not None else None
        self._pause = LOOK * max_age if max_age is not None else 0.0
        self._next_look = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._on_change_of = on_change
        self._transport: asyncio.WriteTransport | None = None
        self._open = True  # as the state says: asked with each picture
        self._most = 0  # bytes that may wait at most: what waited when it was asked, and since
        self._queue: list[bytes] = []
        self._queued = 0
        self._loop = loop = asyncio.get_running_loop()
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

    def write(self, data: bytes, count: int = 0) -> bool:
        """Send ``data`` now, or as soon as there is a connection.

        Args:
            count: what it counts as in ``dropped``.

        Returns:
            False when it is not taken: the segment has ended or is lost. Too much waiting
            for a slow socket loses it: the rest is dropped and the server is told.
        """
        transport = self._transport
        if not self._open or (transport is not None and transport.is_closing()):
            return False
        if not data:
            return True  # a chunk of nothing would be the end
        chunk = b"%x\r\n%b\r\n" % (len(data), data)
        size = len(chunk)
        self._most += size
        if self._most > self._max_buffer and not self._has_room(size):
            self._too_slow()
            return False
        backlog = self._backlog
        if backlog is not None:
            now = self._loop.time()
            if now >= self._next_look and self._look(now):
                return False
            # As its ``wrote`` does it.
            backlog.total += size
            backlog.writes.append((backlog.total, now, count))
        if transport is None:
            self._queue.append(chunk)
            self._queued += size
        else:
            self.touched = True
            transport.write(chunk)
        return True

    def end(self) -> None:
        """The segment is complete."""
        if self.state is Upload.OPEN:
            self._machine.to(Upload.ENDED)
            if self._backlog is not None and self._timer is None:
                self._timer = self._loop.call_later(self._pause, self._look_again)

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
        for chunk in self._queue:
            self.touched = True
            transport.write(chunk)
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

    def _has_room(self, size: int) -> bool:
        """Whether ``size`` more may wait, by what really does."""
        transport = self._transport
        held = self._queued if transport is None else transport.get_write_buffer_size()
        self._most = held + size
        return self._most <= self._max_buffer

    def _look(self, now: float) -> bool:
        """Whether a byte has waited too long, which loses the segment."""
        assert self._backlog is not None
        transport = self._transport
        held = self._queued if transport is None else waiting(transport)
        left = self._backlog.look(held, now)
        if left is not None and left <= 0:
            self._too_slow()
            return True
        self._next_look = now + self._pause
        if left is not None and self._timer is None:
            # Also when nothing more is written, and after the end.
            self._timer = self._loop.call_later(left, self._look_again)
        return False

    def _look_again(self) -> None:
        self._timer = None
        if self.state in (Upload.OPEN, Upload.ENDED):
            self._look(self._loop.time())

    def _too_slow(self) -> None:
        self.lose(PeerError(f"segment {self.sequence} is not taken fast enough", code=TOO_SLOW))

    def _on_change(self, _old: Upload, new: Upload) -> None:
        self._open = False
        if new is Upload.ENDED:
            self._body_done.set_result(None)
        else:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if new is Upload.LOST and self._backlog is not None:
                self.dropped = self._backlog.counted()
            self._queue.clear()
            self._queued = 0
            self._settled.set_result(None)
        if new is Upload.LOST and self._transport is not None:
            # A clean end would make half a segment look whole.
            take_back(self._transport)
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
