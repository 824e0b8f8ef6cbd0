"""PingPong: a value and its echo. Off-chain orchestrators answer with an empty one."""

from __future__ import annotations

from dataclasses import dataclass

from relay.rpc import lp_rpc_pb2 as pb
from relay.rpc.wire import decode, encode


@dataclass(frozen=True, slots=True)
class PingPong:
    value: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> PingPong:
        return cls(decode(pb.PingPong, data).value)

    def serialise(self) -> bytes:
        return encode(lambda: pb.PingPong(value=self.value))
