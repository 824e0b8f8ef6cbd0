"""Which offer to take: a plain rule, and the reason in words.

In this order: an orchestrator that failed us lately comes last; before it one that was
full a moment ago or whose price leapt; a loaded model before a cold one; the cheaper
before the dearer; then the place in the operator's list. Capacity numbers are not looked
at: stock orchestrators with external runners report zero (wire facts, 1.4), and a full one
answers the job with a 503.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import inf
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
    """Orchestrators that failed us; each lapse doubles the time they come last.

    Attributes:
        first, longest: seconds of the first suspension, and the bound of all.
        forgiven_after: seconds after which a lapse counts no more.
        one_at_a_time: a lapse during a suspension makes it no longer: what many find
            out at once is one lapse.
    """

    first: float = FIRST_SUSPENSION
    longest: float = LONGEST_SUSPENSION
    forgiven_after: float = FORGIVEN_AFTER
    one_at_a_time: bool = False
    _lapses: dict[str, Lapse] = field(default_factory=dict)

    def fail(self, url: str, now: float) -> None:
        lapse = self._lapses.get(url)
        if lapse and self.one_at_a_time and lapse.until > now:
            lapse.last = now
            return
        count = lapse.count + 1 if lapse and now - lapse.last < self.forgiven_after else 1
        pause = min(self.first * 2.0 ** min(count - 1, 30), self.longest)
        if len(self._lapses) >= MAX_REMEMBERED and url not in self._lapses:
            del self._lapses[min(self._lapses, key=lambda key: self._lapses[key].last)]
        self._lapses[url] = Lapse(count=count, until=now + pause, last=now)

    def succeed(self, url: str) -> None:
        """It is in good standing again; half of its lapses still count for the next one."""
        lapse = self._lapses.get(url)
        if lapse is None:
            return
        lapse.count //= 2
        lapse.until = 0.0
        if not lapse.count:
            del self._lapses[url]

    def last(self, url: str) -> float:
        """When ``url`` failed last; minus infinity when it never did."""
        lapse = self._lapses.get(url)
        return lapse.last if lapse else -inf

    def suspended_until(self, url: str, now: float) -> float:
        """The time until which ``url`` comes last, or 0.0 when it is in good standing."""
        lapse = self._lapses.get(url)
        return lapse.until if lapse and lapse.until > now else 0.0


@dataclass(frozen=True, slots=True)
class Choice:
    offer: Offer
    why: str


def rank(
    offers: Sequence[Offer],
    suspensions: Suspensions,
    now: float,
    burdens: Mapping[str, str] | None = None,
) -> list[Choice]:
    """All offers, best first, each with why it stands where it does.

    Args:
        burdens: what speaks against an address for now, in words.
    """
    against = dict(burdens or {})
    for offer in offers:
        if suspensions.suspended_until(offer.url, now):
            against[offer.url] = "failed lately"

    def key(offer: Offer) -> tuple[float, bool, bool, object, int]:
        return (
            suspensions.suspended_until(offer.url, now),
            offer.url in against,
            not offer.warm,
            offer.price,
            offer.rank,
        )

    ordered = sorted(offers, key=key)
    rivals = [offer for offer in ordered if offer.url not in against]
    field = _Field(
        offers=len(ordered),
        rivals=len(rivals),
        warm=sum(offer.warm for offer in rivals),
        cheapest=sorted(offer.price for offer in rivals)[:2],
        reasons={against[offer.url] for offer in ordered if offer.url in against},
    )
    return [Choice(offer, _why(offer, field, against)) for offer in ordered]


@dataclass(frozen=True, slots=True)
class _Field:
    """All offers in numbers; the rivals are those that nothing speaks against."""

    offers: int
    rivals: int
    warm: int
    cheapest: list[Fraction]
    reasons: set[str]


def _why(offer: Offer, field: _Field, against: Mapping[str, str]) -> str:
    if field.offers == 1:
        return "the only one that offers the model"
    if offer.url in against:
        return f"{against[offer.url]}; taken because nothing better is left"
    if field.rivals == 1:
        if field.reasons == {"failed lately"}:
            return "the only one that did not fail lately"
        return "the only one that nothing speaks against"
    if offer.warm and field.warm == 1:
        return "the only one with the model loaded"
    if offer.price == field.cheapest[0] < field.cheapest[1]:
        return "the cheapest"
    return f"first of {field.rivals} alike in the operator's list"
