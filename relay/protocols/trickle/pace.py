"""So much at once, and so much a second. Pure: ``now`` is ``time.monotonic()`` in seconds."""

from __future__ import annotations


class Pace:
    """
    Args:
        rate: what comes back a second.
        peak: what may be taken at once, after a rest.
    """

    __slots__ = ("_left", "_peak", "_rate", "_then")

    def __init__(self, rate: float, peak: float, now: float) -> None:
        self._rate = rate
        self._peak = self._left = peak
        self._then = now

    def take(self, amount: float, now: float) -> bool:
        """Take it, or nothing when there is not enough."""
        left = self._left + (now - self._then) * self._rate
        self._then = now
        if left > self._peak:
            left = self._peak
        enough = amount <= left
        self._left = left - amount if enough else left
        return enough

    def owe(self, amount: float, now: float) -> float:
        """Take it in any case; the seconds to wait until there is something again."""
        # Once for each piece of each stream, so in one go.
        left = self._left + (now - self._then) * self._rate
        self._then = now
        self._left = left = (left if left < self._peak else self._peak) - amount
        return 0.0 if left >= 0 else -left / self._rate
