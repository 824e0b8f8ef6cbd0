"""Prices as they change: exact, and never followed when they leap.

A price is wei a pixel, a ``Fraction``. An orchestrator that asks for more than twice what
it asked before is not followed: it comes last for a while, and then its new price is the
one that it is held to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

LEAP: Final = 2
"""Times the earlier price that a later one may be (stock gateways hold a session to it too)."""
HELD: Final = 600.0
"""Seconds that a leap is held against an orchestrator."""
MAX_PRICES: Final = 100_000

Key = tuple[str, ...]


def leaps(before: Fraction, after: Fraction) -> bool:
    """Whether ``after`` is more than twice ``before``; any price is after none."""
    return after > LEAP * before


@dataclass(slots=True)
class _Held:
    price: Fraction
    since: float
    leapt: float | None = None


@dataclass(slots=True)
class Prices:
    """What each orchestrator asked for, and who leapt.

    A key is an address, a model and where the price was told: a price in a list is rounded
    and not to be compared with the one of an offer.
    """

    _held: dict[Key, _Held] = field(default_factory=dict)

    def note(self, key: Key, price: Fraction, now: float) -> bool:
        """Take a price; True when it has just leapt."""
        held = self._held.get(key)
        if held is None:
            if len(self._held) >= MAX_PRICES:
                del self._held[next(iter(self._held))]
            self._held[key] = _Held(price, now)
            return False
        if not leaps(held.price, price):
            # What it may grow to goes down with it, and up only slowly.
            if price < held.price or now - held.since >= HELD:
                held.price, held.since = price, now
            held.leapt = None
            return False
        if held.leapt is None:
            held.leapt = now
            return True
        if now - held.leapt >= HELD:
            held.price, held.since, held.leapt = price, now, None
        return False

    def leapt(self, key: Key) -> bool:
        """Whether its price is more than twice what it was."""
        held = self._held.get(key)
        return held is not None and held.leapt is not None


def parse_price(text: str) -> Fraction:
    """Wei a pixel from ``"1200"``, ``"0.5"`` or ``"3/7"``, exact.

    Raises:
        ValueError: none of these.
    """
    return Fraction(text)
