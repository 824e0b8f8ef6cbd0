"""An offer: what one orchestrator sells for one model, as we last heard it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Offer:
    """One model at one orchestrator.

    Attributes:
        url: the address in our list that we asked.
        transcoder: the service address that it told us; jobs go there.
        model: model id of the live pipeline.
        version: version of the runner, as advertised; empty when not told.
        warm: whether the model is loaded.
        price_per_unit: whole wei a unit; 0 off-chain.
        pixels_per_unit: pixels that make a unit; never 0.
        latency: seconds that its GetOrchestrator took.
        rank: place in our list, 0 first.
        address: on-chain address that it told us; zeros or nothing off-chain.
    """

    url: str
    transcoder: str
    model: str
    version: str
    warm: bool
    price_per_unit: int
    pixels_per_unit: int
    latency: float
    rank: int
    address: bytes = b""

    @property
    def price(self) -> Fraction:
        """Wei a pixel, exact."""
        return Fraction(self.price_per_unit, self.pixels_per_unit)
