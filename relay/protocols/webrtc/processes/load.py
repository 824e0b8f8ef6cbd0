"""The share of a core that a loop takes. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

INTERVAL: Final = 0.25
"""Seconds between two samples."""
SAMPLES: Final = 8
"""Of a window: two seconds, which a burst of joins does not fill."""
WINDOW: Final = SAMPLES * INTERVAL


class Meter:
    """CPU time of the loop's thread, over the last seconds.

    It is the CPU's time and not the clock's: where other programs take the cores, one more
    process of ours would help nobody.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES + 1)

    def add(self, now: float, used: float) -> float:
        """
        Args:
            now: seconds.
            used: CPU seconds of the thread so far.

        Returns:
            The share over the window. Before the first sample it was idle: what takes a
            moment at the start is no load.
        """
        self._samples.append((now, used))
        began, before = self._samples[0]
        return (used - before) / max(now - began, WINDOW)
