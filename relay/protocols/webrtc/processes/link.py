"""One end of the socket pair between the gateway and a process of its own.

What is sent leaves at once where the socket takes it: a process works on a picture while the
gateway still sends the same one. What it does not take is held, bounded, with its age.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

from relay.errors import ParseError
from relay.protocols.webrtc.processes.messages import Message
from relay.protocols.webrtc.processes.wire import Inbox, serialise

MAX_HELD: Final = 16 << 20
"""Bytes that may wait. Media and datagrams stop long before; who leaves so much unread hangs."""

ENDED: Final = "it ended"

_PART: Final = 256 << 10
_MAX_MARKS: Final = 4096


class Link:
    """
    Args:
        on_message: called with each message, from the read of the socket.
        on_lost: called once, with how it came: the other end is gone, talks nonsense, or does
            not read.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[Message], None],
        on_lost: Callable[[str], None],
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self.on_message = on_message
        self._on_lost = on_lost
        self._inbox = Inbox()
        self._part = memoryview(bytearray(_PART))  # a new one for each read costs more than it
        self._held = bytearray()
        self._total = 0
        self._marks: deque[tuple[int, float]] = deque(maxlen=_MAX_MARKS)
        self._batch: list[bytes] = []
        self._open = True
        self._loop.add_reader(sock.fileno(), self._read)

    @property
    def waiting(self) -> int:
        """Bytes that the socket has not taken."""
        return len(self._held)

    def age(self, now: float) -> float:
        """Seconds that the oldest of what waits has done so; 0 where nothing does."""
        gone = self._total - len(self._held)
        marks = self._marks
        while marks and marks[0][0] <= gone:
            marks.popleft()
        return now - marks[0][1] if marks and self._held else 0.0

    def send(self, message: Message) -> None:
        """Never waits."""
        self.write(serialise(message), 0.0)

    def write(self, data: bytes, now: float) -> None:
        """A message as it is.

        Args:
            now: monotonic seconds, where its age counts; else 0.
        """
        if not self._open:
            return
        if self._batch:
            self._flush()
        sent = 0
        if not self._held:
            try:
                sent = self._socket.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._fail(_how(error))
                return
        self._total += len(data)
        if sent == len(data):
            return
        if not self._held:
            self._loop.add_writer(self._socket.fileno(), self._write)
        self._held += data[sent:]
        if now:
            self._marks.append((self._total, now))
        if len(self._held) > MAX_HELD:
            self._fail("it reads no more")

    def batch(self, data: bytes) -> None:
        """A message that leaves with others of this turn of the loop, in one write."""
        if not self._batch:
            self._loop.call_soon(self._flush)
        self._batch.append(data)

    def _flush(self) -> None:
        if self._batch:
            together = b"".join(self._batch)
            self._batch.clear()
            self.write(together, 0.0)

    def _write(self) -> None:
        try:
            with memoryview(self._held) as held:
                sent = self._socket.send(held[:_PART])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(_how(error))
            return
        del self._held[:sent]
        if not self._held:
            self._marks.clear()
            self._loop.remove_writer(self._socket.fileno())

    def _read(self) -> None:
        try:
            size = self._socket.recv_into(self._part)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(_how(error))
            return
        if not size:
            self._fail(ENDED)
            return
        try:
            messages = self._inbox.feed(self._part[:size])
        except ParseError as error:
            self._fail(f"it said what cannot be understood: {error}")
            return
        for message in messages:
            if not self._open:
                return
            self.on_message(message)

    def _fail(self, how: str) -> None:
        if self._open:
            self.close()
            self._on_lost(how)

    def close(self) -> None:
        """A second call does nothing."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._held.clear()
            self._batch.clear()
            self._socket.close()


def _how(error: OSError) -> str:
    gone = isinstance(error, ConnectionError)  # with something unread at the other end, too
    return ENDED if gone else f"the link broke: {error.strerror}"
