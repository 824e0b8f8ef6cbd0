"""What an orchestrator's answer offers: its models, and what it asks for each."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final

from relay.gateway.finder import Answered
from relay.market.offer import Offer
from relay.rpc.capabilities import LIVE_VIDEO_TO_VIDEO, ModelConstraint
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.price_info import PriceInfo

FREE: Final = PriceInfo(0, 1)


def models_of(info: OrchestratorInfo) -> Mapping[str, ModelConstraint]:
    return info.capabilities.models() if info.capabilities is not None else {}


def prices_of(info: OrchestratorInfo) -> dict[str, PriceInfo]:
    """The prices that it lists by model; none in an answer to a question for models."""
    return {
        price.constraint: price
        for price in info.capabilities_prices
        if price.capability == LIVE_VIDEO_TO_VIDEO
        and price.pixels_per_unit > 0
        and price.price_per_unit >= 0
    }


def price_of(info: OrchestratorInfo) -> Fraction:
    """What it asks for what it was asked for: wei a pixel."""
    price = info.price_info or FREE
    return Fraction(price.price_per_unit, price.pixels_per_unit)


def offer_of(answer: Answered, model: str, prices: Mapping[str, PriceInfo] | None = None) -> Offer:
    """
    Args:
        model: one that it has.
        prices: listed ones; the price for all that it does stands for those that are not.
    """
    constraint = models_of(answer.node)[model]
    price = (prices or {}).get(model) or answer.node.price_info or FREE
    return Offer(
        url=answer.url,
        transcoder=answer.node.transcoder,
        model=model,
        version=constraint.runner_version,
        warm=constraint.warm,
        price_per_unit=price.price_per_unit,
        pixels_per_unit=price.pixels_per_unit,
        latency=answer.latency,
        rank=answer.rank,
        address=answer.node.address,
    )
