"""PriceInfo: so many wei for so many pixels, of a capability and model or of anything."""

from __future__ import annotations

from dataclasses import dataclass

from relay.rpc import lp_rpc_pb2 as pb
from relay.rpc.wire import decode, encode


@dataclass(frozen=True, slots=True)
class PriceInfo:
    """
    Attributes:
        price_per_unit: wei.
        pixels_per_unit: pixels; 0 is what a peer may send and means that there is no price.
        capability: id, 0 when the price is for anything.
        constraint: the model id; empty when the price is for anything.
    """

    price_per_unit: int
    pixels_per_unit: int
    capability: int = 0
    constraint: str = ""

    @classmethod
    def parse(cls, data: bytes) -> PriceInfo:
        return cls.from_message(decode(pb.PriceInfo, data))

    def serialise(self) -> bytes:
        return encode(self.to_message)

    @classmethod
    def from_message(cls, message: pb.PriceInfo) -> PriceInfo:
        return cls(
            message.pricePerUnit, message.pixelsPerUnit, message.capability, message.constraint
        )

    def to_message(self) -> pb.PriceInfo:
        return pb.PriceInfo(
            pricePerUnit=self.price_per_unit,
            pixelsPerUnit=self.pixels_per_unit,
            capability=self.capability,
            constraint=self.constraint,
        )
