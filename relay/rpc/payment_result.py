"""PaymentResult: the answer to ``POST /payment``, with the info that the session goes on with."""

from __future__ import annotations

from dataclasses import dataclass

from relay.rpc import lp_rpc_pb2 as pb
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.wire import decode, encode


@dataclass(frozen=True, slots=True)
class PaymentResult:
    info: OrchestratorInfo | None = None

    @classmethod
    def parse(cls, data: bytes) -> PaymentResult:
        return cls.from_message(decode(pb.PaymentResult, data))

    def serialise(self) -> bytes:
        return encode(self.to_message)

    @classmethod
    def from_message(cls, message: pb.PaymentResult) -> PaymentResult:
        info = OrchestratorInfo.from_message(message.info) if message.HasField("info") else None
        return cls(info)

    def to_message(self) -> pb.PaymentResult:
        return pb.PaymentResult(info=self.info.to_message() if self.info else None)
