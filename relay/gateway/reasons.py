"""Why orchestrators cannot be had, in words for those who run the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final

from relay.errors import BadInput, RelayError
from relay.market.offer import Offer
from relay.rpc.address import NodeAddress

MAX_NAMED: Final = 3
"""Orchestrators that are named in one reason."""


def why_not(url: str, error: RelayError) -> str:
    """An orchestrator's failure, without its address, which most errors begin with."""
    text = str(error)
    names = [url]
    try:
        address = NodeAddress.parse(url)
        names += [address.url, address.authority]
    except BadInput:
        pass  # then that is what the error says
    for name in names:
        if text.startswith((f"{name}: ", f"{name} ")):
            return text[len(name) :].removeprefix(":").strip()
    return text


def named(reasons: Mapping[str, str]) -> str:
    """A few orchestrators, each with what speaks against it."""
    first = "; ".join(f"{url}: {why}" for url, why in list(reasons.items())[:MAX_NAMED])
    return first + _more(len(reasons))


def asked(offers: list[Offer]) -> str:
    """What a few of them ask, the cheapest first."""
    cheapest = sorted(offers, key=lambda offer: (offer.price, offer.rank))
    told = [f"{offer.url} asks {wei(offer.price)} wei a pixel" for offer in cheapest[:MAX_NAMED]]
    return "; ".join(told) + _more(len(offers))


def wei(price: Fraction) -> str:
    """A price as ``max_price`` takes it: a decimal number where it is one, else a fraction."""
    whole = price * 10**18
    if whole.denominator != 1:
        return str(price)
    digits = f"{whole.numerator:019d}"
    return f"{digits[:-18]}.{digits[-18:]}".rstrip("0").rstrip(".")


def _more(count: int) -> str:
    return f"; and {count - MAX_NAMED} more" if count > MAX_NAMED else ""
