"""OrchestratorRequest: a gateway asks what an orchestrator offers."""

from __future__ import annotations

from dataclasses import dataclass

from relay.rpc import lp_rpc_pb2 as pb
from relay.rpc.capabilities import Capabilities, ModelConstraint
from relay.rpc.wire import decode, encode

NO_ADDRESS = bytes(20)
"""The address of a node without a wallet: off-chain nodes send twenty zero bytes."""


@dataclass(frozen=True, slots=True)
class OrchestratorRequest:
    """
    Attributes:
        address: 20 bytes; zeros off-chain, empty from the Python SDK.
        signature: over the checksummed address; empty off-chain.
        capabilities: what is wanted; None asks for everything.
        ignore_capacity_check: also answer when every place is taken.
    """

    address: bytes = NO_ADDRESS
    signature: bytes = b""
    capabilities: Capabilities | None = None
    ignore_capacity_check: bool = False

    @classmethod
    def for_live(cls, *models: str) -> OrchestratorRequest:
        """Ask, as a stock gateway without a wallet does, for live models by name."""
        return cls(capabilities=Capabilities.live({model: ModelConstraint() for model in models}))

    @classmethod
    def parse(cls, data: bytes) -> OrchestratorRequest:
        return cls.from_message(decode(pb.OrchestratorRequest, data))

    def serialise(self) -> bytes:
        return encode(self.to_message)

    @classmethod
    def from_message(cls, message: pb.OrchestratorRequest) -> OrchestratorRequest:
        capabilities = None
        if message.HasField("capabilities"):
            capabilities = Capabilities.from_message(message.capabilities)
        return cls(message.address, message.sig, capabilities, message.ignoreCapacityCheck)

    def to_message(self) -> pb.OrchestratorRequest:
        return pb.OrchestratorRequest(
            address=self.address,
            sig=self.signature,
            capabilities=self.capabilities.to_message() if self.capabilities else None,
            ignoreCapacityCheck=self.ignore_capacity_check,
        )
