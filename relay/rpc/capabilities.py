"""Capabilities: what a node can do, as bits, and for which models.

Bit ``n`` stands in word ``n // 64``. The ids are the network's; only those that live AI
needs have a name here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from relay.rpc import lp_rpc_pb2 as pb
from relay.rpc.wire import decode, encode

LIVE_VIDEO_TO_VIDEO: Final = 35
"""Capability id of the pipeline ``live-video-to-video``."""

LIVE_PIPELINE: Final = "live-video-to-video"

DEFAULT_CAPABILITIES: Final = frozenset({*range(13), 14, 26})
"""What stock nodes always announce: 0x4005FFF in word 0. One missing bit in an
orchestrator's answer, and a stock gateway never chooses it."""

NETWORK_VERSION: Final = "0.9.1"
"""The version of the node protocol that we speak, told where peers compare versions."""


@dataclass(frozen=True, slots=True)
class ModelConstraint:
    """What is told about one model. ``capacity`` counts idle places, as stock nodes do."""

    warm: bool = False
    capacity: int = 0
    runner_version: str = ""
    capacity_in_use: int = 0

    @classmethod
    def from_message(
        cls, message: pb.Capabilities.CapabilityConstraints.ModelConstraint
    ) -> ModelConstraint:
        return cls(message.warm, message.capacity, message.runnerVersion, message.capacityInUse)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """
    Attributes:
        bitstring: 64-bit words, the lowest first.
        mandatories: bits that the other side must have, same form.
        capacities: capability id to a number; stock nodes say 1 for each.
        version: of the node's build; may be empty.
        constraints: capability id to model id to what is told about it. None when
            the message carries no constraints at all, which a stock gateway does not
            survive in an answer.
        min_version: the lowest version of the other side that is taken; may be empty.
    """

    bitstring: tuple[int, ...] = ()
    mandatories: tuple[int, ...] = ()
    capacities: Mapping[int, int] = field(default_factory=dict)
    version: str = ""
    constraints: Mapping[int, Mapping[str, ModelConstraint]] | None = None
    min_version: str = ""

    @classmethod
    def live(
        cls, models: Mapping[str, ModelConstraint], *, version: str = NETWORK_VERSION
    ) -> Capabilities:
        """The default set and live video to video, for ``models``: the form in which
        stock gateways ask and stock orchestrators answer."""
        bits = DEFAULT_CAPABILITIES | {LIVE_VIDEO_TO_VIDEO}
        return cls(
            bitstring=pack(bits),
            capacities=dict.fromkeys(sorted(bits), 1),
            version=version,
            constraints={LIVE_VIDEO_TO_VIDEO: dict(models)},
        )

    def has(self, capability: int) -> bool:
        word, bit = divmod(capability, 64)
        return word < len(self.bitstring) and bool(self.bitstring[word] >> bit & 1)

    def models(self, capability: int = LIVE_VIDEO_TO_VIDEO) -> Mapping[str, ModelConstraint]:
        """The models named for a capability; empty when there are none."""
        return (self.constraints or {}).get(capability, {})

    @classmethod
    def parse(cls, data: bytes) -> Capabilities:
        return cls.from_message(decode(pb.Capabilities, data))

    def serialise(self) -> bytes:
        return encode(self.to_message)

    @classmethod
    def from_message(cls, message: pb.Capabilities) -> Capabilities:
        constraints = None
        if message.HasField("constraints"):
            constraints = {
                capability: {
                    model: ModelConstraint.from_message(constraint)
                    for model, constraint in entry.models.items()
                }
                for capability, entry in message.constraints.PerCapability.items()
            }
        return cls(
            bitstring=tuple(message.bitstring),
            mandatories=tuple(message.mandatories),
            capacities=dict(message.capacities),
            version=message.version,
            constraints=constraints,
            min_version=message.constraints.minVersion,
        )

    def to_message(self) -> pb.Capabilities:
        message = pb.Capabilities(
            bitstring=self.bitstring,
            mandatories=self.mandatories,
            capacities=self.capacities,
            version=self.version,
        )
        if self.constraints is not None or self.min_version:
            message.constraints.minVersion = self.min_version
            message.constraints.SetInParent()
        for capability, models in (self.constraints or {}).items():
            entry = message.constraints.PerCapability[capability]
            for model, constraint in models.items():
                target = entry.models[model]
                target.warm = constraint.warm
                target.capacity = constraint.capacity
                target.runnerVersion = constraint.runner_version
                target.capacityInUse = constraint.capacity_in_use
        return message


def pack(bits: Iterable[int]) -> tuple[int, ...]:
    """Capability ids to 64-bit words."""
    words: list[int] = []
    for bit in bits:
        word, shift = divmod(bit, 64)
        words.extend([0] * (word + 1 - len(words)))
        words[word] |= 1 << shift
    return tuple(words)
