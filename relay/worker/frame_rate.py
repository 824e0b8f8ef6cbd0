"""For how many frames a second an encoder plans that shares its bits out by frames. Pure."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

from relay.media.unit import VIDEO_CLOCK

FIRST: Final = 30.0
SLOWEST: Final = 1.0
FASTEST: Final = 240.0
TOLERANCE: Final = 1.3
STANDSTILL: Final = VIDEO_CLOCK // 2
"""Ticks without a frame that tell nothing of the rate, where frames came closer before."""

USUAL: Final = 4
"""Times the usual interval that a standstill has at least; and how many intervals tell of a
rate that is here now. Few, so that those of the rate before are not among them."""

OVERDRAWN: Final = 1.0
"""Seconds of the bitrate sent too early, of which not even a key frame needs as many."""

KEPT: Final = 512


class FrameRate:
    """
    A rate that fell is planned for at the next key frame: until then too little is sent. One
    that rose is planned for at once where it overdraws the bitrate.

    Args:
        bitrate: bits a second.

    Attributes:
        planned: frames a second.
    """

    def __init__(self, bitrate: int) -> None:
        self.planned = FIRST
        self._bitrate = bitrate
        self._last: int | None = None
        self._intervals: deque[int] = deque(maxlen=KEPT)  # ticks, since the last key frame
        self._early = 0.0  # bits sent before their time

    def begin(self) -> None:
        """What comes next has to do with nothing before, neither in time nor in rate control."""
        self._last = None
        self._intervals.clear()
        self._early = 0.0

    def moved(self, pts: int, *, due: bool) -> bool:
        """A frame comes. Whether another rate than before is ``planned`` from it on.

        Args:
            pts: ticks; later than the frame before.
            due: it becomes a key frame anyway.
        """
        if self._last is None:
            return False
        interval = pts - self._last
        self._intervals.append(interval)
        self._early = max(self._early - self._bitrate * interval / VIDEO_CLOCK, 0.0)
        rate = self._steady() if due else self._risen()
        if rate is None or 1 / TOLERANCE < rate / self.planned < TOLERANCE:
            return False
        self.planned = rate
        return True

    def sent(self, pts: int, octets: int, *, keyframe: bool) -> None:
        """The frame of that time was encoded."""
        self._last = pts
        self._early += 8 * octets
        if keyframe:
            self._intervals.clear()

    def _steady(self) -> float | None:
        """The rate since the last key frame, standstills left out; None for too few frames."""
        intervals = self._intervals
        if len(intervals) < USUAL - 1:
            return None
        longest = max(STANDSTILL, USUAL * median(intervals))
        steady = [interval for interval in intervals if interval <= longest]
        return _rate(len(steady), sum(steady)) if sum(steady) >= VIDEO_CLOCK else None

    def _risen(self) -> float | None:
        """The rate of the newest frames, where it overdraws the bitrate."""
        if self._early <= OVERDRAWN * self._bitrate or len(self._intervals) < USUAL:
            return None
        rate = _rate(USUAL, sum(list(self._intervals)[-USUAL:]))
        return rate if rate > self.planned else None


def _rate(frames: int, ticks: int) -> float:
    return min(max(frames * VIDEO_CLOCK / ticks, SLOWEST), FASTEST)
