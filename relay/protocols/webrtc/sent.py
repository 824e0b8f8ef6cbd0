"""What was sent and may be asked for again: payloads by reference, one entry a frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

HISTORY: Final = 512
"""Packets that can be sent again."""


SLACK: Final = 64
"""Packets more than that which may be held, so that they are let go of several at a time."""


class SentPacket(NamedTuple):
    payload: bytes
    timestamp: int
    marker: bool


class SentFrames:
    """Packets numbered from 0 as they were sent, of which the last HISTORY are kept.

    All viewers that are sent the same frames share one: where a viewer stands in it is
    one number of its own.

    Attributes:
        total: packets that went in.
    """

    __slots__ = ("_frames", "_kept", "total")

    def __init__(self) -> None:
        self.total = 0
        # Payloads, timestamp, marker, packets; of those of one packet each there are most.
        self._frames: deque[tuple[Sequence[bytes], int, bool, int]] = deque(maxlen=HISTORY + SLACK)
        self._kept = 0

    def add(self, payloads: Sequence[bytes], timestamp: int, *, marker: bool) -> None:
        """
        Args:
            payloads: of one frame, at least one; not changed after.
        """
        count = len(payloads)
        self._frames.append((payloads, timestamp, marker, count))
        self.total += count
        self._kept += count
        if self._kept >= HISTORY + SLACK:
            self._forget()

    def _forget(self) -> None:
        """All that HISTORY is without."""
        frames, kept = self._frames, self._kept
        while kept - frames[0][3] >= HISTORY:
            kept -= frames.popleft()[3]
        self._kept = kept

    def back(self, count: int) -> SentPacket | None:
        """The packet ``count`` before the newest, 0 is that one; None when it is not kept."""
        if not 0 <= count < min(self._kept, HISTORY):
            return None
        frames = reversed(self._frames)
        payloads, timestamp, marker, packets = next(frames)
        while count >= packets:
            count -= packets
            payloads, timestamp, marker, packets = next(frames)
        return SentPacket(payloads[-1 - count], timestamp, marker and count == 0)

    def take_since(self, other: SentFrames, total: int) -> None:
        """Add what went into ``other`` after its ``total`` was that, as far as it is kept."""
        since = other.total - total
        frames: list[tuple[Sequence[bytes], int, bool, int]] = []
        for frame in reversed(other._frames):
            if since <= 0:
                break
            since -= frame[3]
            frames.append(frame)
        for payloads, timestamp, marker, _ in reversed(frames):
            self.add(payloads, timestamp, marker=marker)

    def clear(self) -> None:
        self._frames.clear()
        self._kept = 0
