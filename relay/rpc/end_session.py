"""EndTranscodingSession: its request names the session; its answer is empty.

Live AI does not use it; a gateway that calls it gets the empty answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.rpc import lp_rpc_pb2 as pb
from relay.rpc.auth_token import AuthToken
from relay.rpc.wire import decode, encode


@dataclass(frozen=True, slots=True)
class EndSessionRequest:
    auth_token: AuthToken | None = None

    @classmethod
    def parse(cls, data: bytes) -> EndSessionRequest:
        message = decode(pb.EndTranscodingSessionRequest, data)
        token = None
        if message.HasField("auth_token"):
            token = AuthToken.from_message(message.auth_token)
        return cls(token)

    def serialise(self) -> bytes:
        return encode(
            lambda: pb.EndTranscodingSessionRequest(
                auth_token=self.auth_token.to_message() if self.auth_token else None
            )
        )
