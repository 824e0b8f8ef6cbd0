"""Which offer to take: a plain rule, and the reason in words.

In this order: an orchestrator that failed us lately comes last; a loaded model
before a cold one; the cheaper before the dearer; then the place in the operator's
list. Capacity numbers are not looked at: stock orchestrators with external
runners report zero (wire facts, 1.4), and a full one answers the job with a 503.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from relay.market.offer import Offer

FIRST_SUSPENSION: Final = 5.0
LONGEST_SUSPENSION: Final = 60.0
FORGIVEN_AFTER: Final = 300.0
MAX_REMEMBERED: Final = 10_000


@dataclass(slots=True)
class Lapse:
    count: int
    until: float
    last: float


@dataclass(slots=True)
class Suspensions:
    """Orchestrators that failed us; each lapse doubles the time they come last."""

    _lapses: dict[str, Lapse] = field(default_factory=dict)

    def fail(self, url: str, now: float) -> None:
        lapse = self._lapses.get(url)
        count = lapse.count + 1 if lapse and now - lapse.last < FORGIVEN_AFTER else 1
        pause = min(FIRST_SUSPENSION * 2 ** (count - 1), LONGEST_SUSPENSION)
        if len(self._lapses) >= MAX_REMEMBERED and url not in self._lapses:
            del self._lapses[min(self._lapses, key=lambda key: self._lapses[key].last)]
        self._lapses[url] = Lapse(count=count, until=now + pause, last=now)

    def suspended_until(self, url: str, now: float) -> float:
        """The time until which ``url`` comes last, or 0.0 when it is in good standing."""
        lapse = self._lapses.get(url)
        return lapse.until if lapse and lapse.until > now else 0.0


@dataclass(frozen=True, slots=True)
class Choice:
    offer: Offer
    why: str


def rank(offers: Sequence[Offer], suspensions: Suspensions, now: float) -> list[Choice]:
    """All offers, best first, each with why it stands where it does."""

    def key(offer: Offer) -> tuple[float, bool, object, int]:
        return (
            suspensions.suspended_until(offer.url, now),
            not offer.warm,
            offer.price,
            offer.rank,
        )

    ordered = sorted(offers, key=key)
    return [Choice(offer, _why(offer, ordered, suspensions, now)) for offer in ordered]


def _why(offer: Offer, ordered: Sequence[Offer], suspensions: Suspensions, now: float) -> str:
    if len(ordered) == 1:
        return "the only one that offers the model"
    if suspensions.suspended_until(offer.url, now):
        return "failed lately; taken because nothing better is left"
    others = [other for other in ordered if other is not offer]
    rivals = [other for other in others if not suspensions.suspended_until(other.url, now)]
    if not rivals:
        return "the only one that did not fail lately"
    if offer.warm and not any(other.warm for other in rivals):
        return "the only one with the model loaded"
    if all(offer.price < other.price for other in rivals):
        return "the cheapest"
    return f"first of {len(rivals) + 1} alike in the operator's list"
