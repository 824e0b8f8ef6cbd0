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
        self._rest(now)
        if amount > self._left:
            return False
        self._left -= amount
        return True

    def owe(self, amount: float, now: float) -> float:
        """Take it in any case; the seconds to wait until there is something again."""
        self._rest(now)
        self._left -= amount
        return max(0.0, -self._left / self._rate)

    def _rest(self, now: float) -> None:
        self._left = min(self._peak, self._left + (now - self._then) * self._rate)
        self._then = now
