"""AuthToken: an orchestrator's own proof that it made this session. Opaque to a gateway."""

from __future__ import annotations

from dataclasses import dataclass

from relay.rpc import lp_rpc_pb2 as pb
from relay.rpc.wire import decode, encode


@dataclass(frozen=True, slots=True)
class AuthToken:
    """
    Attributes:
        token: whatever the orchestrator checks.
        session_id: stock nodes use 8 hex digits.
        expiration: seconds since the epoch.
    """

    token: bytes
    session_id: str
    expiration: int

    @classmethod
    def parse(cls, data: bytes) -> AuthToken:
        return cls.from_message(decode(pb.AuthToken, data))

    def serialise(self) -> bytes:
        return encode(self.to_message)

    @classmethod
    def from_message(cls, message: pb.AuthToken) -> AuthToken:
        return cls(message.token, message.session_id, message.expiration)

    def to_message(self) -> pb.AuthToken:
        return pb.AuthToken(
            token=self.token, session_id=self.session_id, expiration=self.expiration
        )
