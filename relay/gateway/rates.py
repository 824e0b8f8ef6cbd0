"""Frames and bits a second over the last moments, and percentiles of delays."""

from __future__ import annotations

from collections import deque
from typing import Final

from relay import metrics
from relay.gateway.status import Delay

WINDOW: Final = 2.0
MAX_SAMPLES: Final = 1000
TOGETHER: Final = 32
"""Delays that are told to the process's histogram at once: the first costs most."""
TELL: Final = 1.0
"""Seconds between two looks of the process's counters."""


class Meter:
    """Counts units and octets over the last ``WINDOW`` seconds, and octets over all time.

    Args:
        path: the label under which the process counts the same, a little later: a counter of
            it costs more than all else here.
    """

    __slots__ = ("_bytes", "_frames", "_samples", "_total", "tell_at", "untold")

    def __init__(self, path: str) -> None:
        self._bytes = metrics.MEDIA_BYTES.labels(path)
        self._frames = metrics.MEDIA_FRAMES.labels(path)
        self.untold: list[tuple[float, int]] = []
        """Where they may be put too, with the time: at ``tell_at`` ``look`` is to be called."""
        self.tell_at = 0.0
        self._total = 0
        self._samples: deque[tuple[float, int]] = deque(maxlen=MAX_SAMPLES)

    def add(self, octets: int, now: float) -> None:
        self.untold.append((now, octets))
        if now >= self.tell_at:
            self.look(now)

    def look(self, now: float) -> None:
        """What is due at ``tell_at``."""
        self.tell_at = now + TELL
        self._forget(now)

    @property
    def total(self) -> int:
        """Octets so far."""
        self.tell()
        return self._total

    def tell(self) -> None:
        """Bring the counters of the process up to date: to be called at the end."""
        octets = sum([size for _, size in self.untold])
        self._total += octets
        self._bytes.inc(octets)
        self._frames.inc(len(self.untold))
        self._samples += self.untold
        self.untold.clear()

    def fps(self, now: float) -> float:
        self._forget(now)
        return round(len(self._samples) / WINDOW, 1)

    def bitrate(self, now: float) -> int:
        """Bits a second."""
        self._forget(now)
        return int(sum(octets for _, octets in self._samples) * 8 / WINDOW)

    def _forget(self, now: float) -> None:
        self.tell()
        samples, oldest = self._samples, now - WINDOW
        while samples and samples[0][0] < oldest:
            samples.popleft()


class Delays:
    """The last few hundred delays, in seconds; the process counts them too, a little later."""

    __slots__ = ("_samples", "untold")

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=300)
        self.untold: list[float] = []
        """Where they are put; at TOGETHER of them ``tell`` is to be called."""

    def tell(self) -> None:
        """Bring the histogram of the process up to date: to be called at the end."""
        self._samples.extend(self.untold)
        metrics.STREAM_DELAY.add(self.untold)
        self.untold.clear()

    def summary(self) -> Delay | None:
        self.tell()
        if not self._samples:
            return None
        ordered = sorted(self._samples)
        return Delay(
            p50_ms=round(ordered[len(ordered) // 2] * 1000, 2),
            p95_ms=round(ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)] * 1000, 2),
            last_ms=round(self._samples[-1] * 1000, 2),
        )
