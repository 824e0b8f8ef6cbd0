"""How many media packets of one peer are looked at, so that its flood delays nobody else."""

from __future__ import annotations

from typing import Final

RATE: Final = 10_000.0
"""Packets a second that are opened: about 100 Mbit/s of media."""
BURST: Final = 4000.0
"""Packets at once: more than the largest access unit has."""


class Budget:
    """Tokens, filled up only when they are used up: a subtraction a packet.

    In any t seconds no more than ``2 * BURST + t * RATE`` are taken. The native part counts
    in the same way (``native/receive.c``).
    """

    __slots__ = ("_filled_at", "_tokens")

    def __init__(self, now: float) -> None:
        self._tokens = BURST
        self._filled_at = now

    def take(self, now: float) -> bool:
        """Whether one more packet may be looked at."""
        if self._tokens < 1:
            self._tokens = min(BURST, self._tokens + (now - self._filled_at) * RATE)
            self._filled_at = now
            if self._tokens < 1:
                return False
        self._tokens -= 1
        return True
