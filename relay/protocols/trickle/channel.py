"""A trickle channel: five slots of segments, and the rules of who may read and write them.

Pure: no socket, clock or task; ``now`` is ``time.monotonic()`` in seconds. The rules are
those of the network's own server; where that one has a defect (it rewinds on a late empty
preconnect, keeps half-written segments open for ever, and has no bounds), the wire stays
and the defect does not.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum
from typing import Final

from relay.errors import (
    BadInput,
    NotFound,
    RateLimited,
    SegmentGone,
    TooLarge,
    Unavailable,
)
from relay.protocols.trickle.pace import Pace
from relay.protocols.trickle.paths import CURRENT, LATEST, MAX_SEQUENCE
from relay.protocols.trickle.segment import Segment
from relay.states import StateMachine

log = logging.getLogger(__name__)

SLOTS: Final = 5
"""Segments a channel keeps; a new one takes the slot of its number modulo this."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a server: bytes, counts and seconds.

    Attributes:
        segment_bytes: one segment; more is refused and the segment closed.
        channel_bytes: what one channel keeps; the oldest closed segments go first.
        total_bytes: what all channels of a server keep together.
        channels: channels of a server.
        readers: requests that read one channel at once.
        writers: requests that write one channel at once.
        segment_rate, segment_peak: segments that one channel takes a second, and at once;
            more are refused.
        byte_rate, byte_peak: the same of bytes; a writer that is faster waits.
        idle: a channel without a byte for this long is swept.
        abandoned: a half-written segment whose writer vanished is closed after this.
        stall: a writer that began and sends nothing, and a reader that takes nothing, are
            let go after this.
        keepalive: between two ``100 Continue`` while a writer has sent nothing.
        sweep: between two looks at all of these.
    """

    segment_bytes: int = 80 << 20
    channel_bytes: int = 128 << 20
    total_bytes: int = 1 << 30
    channels: int = 4096
    readers: int = 256
    writers: int = 16
    segment_rate: float = 100.0
    segment_peak: float = 500.0
    byte_rate: float = 64 << 20
    byte_peak: float = 128 << 20
    idle: float = 300.0
    abandoned: float = 5.0
    stall: float = 30.0
    keepalive: float = 10.0
    sweep: float = 5.0


class Budget:
    """Bytes that the channels of a server may keep together."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, amount: int) -> bool:
        if self.used + amount > self.limit:
            return False
        self.used += amount
        return True

    def give(self, amount: int) -> None:
        self.used -= amount


class ChannelState(Enum):
    OPEN = "open"
    CLOSED = "closed"


_TABLE: Final = {
    ChannelState.OPEN: frozenset({ChannelState.CLOSED}),
    ChannelState.CLOSED: frozenset[ChannelState](),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a GET reads: the segment, and whether it was the next one when asked for."""

    segment: Segment
    was_next: bool


class Channel:
    """An append-only sequence of segments.

    Attributes:
        name: what it is called in addresses; whoever knows it may read and write.
        mime: the content type of every answer, fixed at creation.
        next_write: one more than the number whose first byte came most recently.
        last_write: when the last byte came (or the channel was made), monotonic seconds.
        bytes: kept now, over all slots.
        received: ever written.
        readers: how many are reading now; the server counts.
        cut: the writer that ended most recently lost its connection in its request; the server
            says so.
    """

    def __init__(self, name: str, mime: str, now: float, limits: Limits, budget: Budget) -> None:
        self.name = name
        self.mime = mime
        self.next_write = 0
        self.last_write = now
        self.bytes = 0
        self.received = 0
        self.readers = 0
        self.cut = False
        self.writers = 0
        self._limits = limits
        self._budget = budget
        self._segment_pace = Pace(limits.segment_rate, limits.segment_peak, now)
        self.pause = Pace(limits.byte_rate, limits.byte_peak, now).owe
        """Seconds that a writer of so many bytes has to wait before its next ones."""
        self._slots: list[Segment | None] = [None] * SLOTS
        # Counts the restarts of the publisher: an empty end that an older
        # publisher's preconnect brings must not move next_write.
        self._epoch = 0
        # The name opens the channel, so a log line shows its beginning only.
        self._machine = StateMachine(
            f"trickle channel {name[:4]}...", ChannelState.OPEN, _TABLE, log=log
        )

    @property
    def closed(self) -> bool:
        return self._machine.state is ChannelState.CLOSED

    def admit(self, now: float) -> None:
        """One more request to write.

        Raises:
            RateLimited: they come faster than any stream, or any hand at a slider, needs.
        """
        if not self._segment_pace.take(1, now):
            raise RateLimited("Too many segments", code="too_many_segments", retry_after=1)

    def write(self, sequence: int, *, reset: bool = False) -> Writer:
        """Begin to write ``sequence`` (``LATEST``: the next one).

        Nothing advances until the first byte. The segment of that number is used if it is
        there, open or finished; another one in its slot is closed and forgotten.

        Args:
            sequence: ``LATEST``, or 0 to ``MAX_SEQUENCE``.
            reset: close every kept segment of a smaller number.

        Raises:
            NotFound: the channel is closed.
            BadInput: ``LATEST``, and no number is left.
            Unavailable: too many writers.
        """
        self._check_open()
        if self.writers >= self._limits.writers:
            raise Unavailable("Too many writers", code="too_many_writers")
        if sequence == LATEST:
            sequence = self.next_write
        if not 0 <= sequence <= MAX_SEQUENCE:
            raise BadInput("Invalid idx", code="bad_sequence")
        segment = self._at(sequence)
        if segment is None:
            segment = self._put(sequence)
        if reset:
            self._epoch += 1
            for other in self._slots:
                if other is not None and other.sequence < sequence:
                    self._end(other)
        return Writer(self, segment, self._epoch)

    def read(self, sequence: int) -> Reading:
        """Find the segment that a reader of ``sequence`` gets.

        Args:
            sequence: ``LATEST``, ``CURRENT``, or 0 to ``MAX_SEQUENCE``.

        Raises:
            NotFound: the channel is closed.
            SegmentGone: there is no such segment; ``latest`` is ``next_write``.
            Unavailable: too many readers.
        """
        self._check_open()
        if self.readers >= self._limits.readers:
            raise Unavailable("Too many readers", code="too_many_readers")
        if sequence == LATEST:
            sequence = self.next_write
        elif sequence == CURRENT:
            sequence = max(self.next_write - 1, 0)
        segment = self._at(sequence)
        if segment is None and self._may_await(sequence):
            segment = self._put(sequence)
        if segment is None:
            raise SegmentGone("Entry not found", latest=self.next_write)
        return Reading(segment, sequence == self.next_write)

    def delete(self, sequence: int) -> None:
        """Close the segment ``sequence``; it can still be read.

        Raises:
            NotFound: the channel is closed.
            BadInput: there is no such segment.
        """
        self._check_open()
        segment = self._at(sequence)
        if segment is None:
            raise BadInput("Nonexistent segment", code="no_segment")
        self._end(segment)

    def close(self, reason: str) -> bool:
        """Close every segment and the channel. Returns whether it was open."""
        if not self._machine.to(ChannelState.CLOSED, reason):
            return False
        for segment in self._slots:
            if segment is not None:
                self._end(segment)
                self._forget(segment)
        return True

    def expire(self, segment: Segment, abandonment: int) -> None:
        """Close ``segment``, unless somebody has written to it since that ``abandonment``."""
        if segment.writers == 0 and segment.abandonments == abandonment:
            self._end(segment)

    # What writers do.

    def accept(self, segment: Segment, data: bytes, now: float) -> None:
        """Append for a writer; see ``Writer.write``."""
        size = len(data)
        if segment.size + size > self._limits.segment_bytes:
            segment.close()
            raise TooLarge("Segment too large", code="segment_too_large")
        # An open segment is in its slot: what leaves a slot is closed first.
        self._make_room(segment, size)
        if not self._budget.take(size):
            segment.close()
            raise Unavailable("No memory left for segments", code="no_memory")
        self.bytes += size
        if segment.size == 0:
            self._advance(segment.sequence)
        self.last_write = now
        self.received += size
        segment.append(data)

    def finish(self, segment: Segment, epoch: int, now: float) -> None:
        """End a segment for its writer; see ``Writer.finish``."""
        if segment.closed:
            return
        ahead = segment.sequence - self.next_write
        if segment.size == 0 and (ahead == 0 or (ahead > 0 and epoch == self._epoch)):
            self._advance(segment.sequence)
            self.last_write = now
        segment.close()

    # Slots.

    def _check_open(self) -> None:
        if self.closed:
            raise NotFound("Stream not found", code="no_channel")

    def _at(self, sequence: int) -> Segment | None:
        segment = self._slots[sequence % SLOTS]
        return segment if segment is not None and segment.sequence == sequence else None

    def _put(self, sequence: int) -> Segment:
        slot = sequence % SLOTS
        old = self._slots[slot]
        if old is not None:
            self._forget(old)
        segment = self._slots[slot] = Segment(sequence)
        return segment

    def _may_await(self, sequence: int) -> bool:
        """Whether a segment that is not there yet may be waited for."""
        if sequence != self.next_write and not (sequence == 1 and self.next_write == 0):
            return False
        # A reader must not push out what a writer has already opened.
        there = self._slots[sequence % SLOTS]
        return there is None or there.sequence < sequence or there.closed

    def _advance(self, sequence: int) -> None:
        if sequence + 1 < self.next_write:
            self._epoch += 1
        if sequence + SLOTS < self.next_write:
            # Somebody starts anew: the finished segments of the one before would swallow
            # those of the same number.
            for old in self._slots:
                if old is not None and old.closed and old.sequence > sequence:
                    self._forget(old)
        self.next_write = sequence + 1

    def _end(self, segment: Segment) -> None:
        """Close for somebody else than the writer."""
        if not segment.closed and segment.size == 0 and segment.sequence == self.next_write:
            # Otherwise every reader would be sent back to this empty one.
            self.next_write += 1
        segment.close()

    def _forget(self, segment: Segment) -> None:
        self._slots[segment.sequence % SLOTS] = None
        self.bytes -= segment.size
        self._budget.give(segment.size)
        segment.close()

    def _make_room(self, writing: Segment, size: int) -> None:
        while self.bytes + size > self._limits.channel_bytes:
            others = [s for s in self._slots if s is not None and s is not writing and s.size]
            if not others:
                return
            self._forget(min(others, key=lambda segment: (not segment.closed, segment.sequence)))


class Writer:
    """One request that writes one segment.

    Attributes:
        segment: what is written.
        started: a byte has been written by this writer.
    """

    __slots__ = ("_channel", "_epoch", "segment", "started")

    def __init__(self, channel: Channel, segment: Segment, epoch: int) -> None:
        self.segment = segment
        self.started = False
        self._channel = channel
        self._epoch = epoch
        segment.writers += 1
        channel.writers += 1

    def write(self, data: bytes, now: float) -> None:
        """Append; dropped without a word when the segment was closed by somebody else.

        Raises:
            TooLarge: the segment is full; it is closed.
            Unavailable: the server keeps too much already; the segment is closed.
        """
        self.started = True
        if not self.segment.closed:
            self._channel.accept(self.segment, data, now)

    def finish(self, now: float) -> None:
        """The body has come to its end: close the segment, empty or not."""
        self._channel.finish(self.segment, self._epoch, now)

    def release(self) -> bool:
        """This writer is gone. Returns whether it leaves a half-written segment alone."""
        segment = self.segment
        segment.writers -= 1
        self._channel.writers -= 1
        abandoned = segment.writers == 0 and segment.size > 0 and not segment.closed
        segment.abandonments += abandoned
        return abandoned
