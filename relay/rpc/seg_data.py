"""SegData: the ``Livepeer-Segment`` header, which carries the auth token of every job."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Final

from relay.errors import ParseError
from relay.rpc import lp_rpc_pb2 as pb
from relay.rpc.auth_token import AuthToken
from relay.rpc.capabilities import LIVE_VIDEO_TO_VIDEO, Capabilities
from relay.rpc.wire import decode, encode

HASH_OF_NOTHING: Final = bytes.fromhex(
    "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
)
"""keccak256 of no bytes: an AI job has no segment to hash."""

NO_PROFILES: Final = b"invalid"
"""What stock gateways put in the place of transcoding profiles for an AI job."""


@dataclass(frozen=True, slots=True)
class SegData:
    """
    Attributes:
        manifest_id: ``35_<model>`` at a job's start, its manifest id afterwards; the
            Python SDK leaves it empty.
        auth_token: as the orchestrator made it; None when absent.
        capabilities: those of the discovery; None when absent.
        duration_ms: 0 for AI.
    """

    manifest_id: bytes = b""
    auth_token: AuthToken | None = None
    capabilities: Capabilities | None = None
    sequence: int = 0
    hash: bytes = b""
    profiles: bytes = b""
    signature: bytes = b""
    duration_ms: int = 0

    @classmethod
    def for_job(cls, model: str, auth_token: AuthToken, capabilities: Capabilities) -> SegData:
        """As a stock gateway without a wallet sends it with a live job's start."""
        return cls(
            manifest_id=f"{LIVE_VIDEO_TO_VIDEO}_{model}".encode(),
            auth_token=auth_token,
            capabilities=capabilities,
            hash=HASH_OF_NOTHING,
            profiles=NO_PROFILES,
        )

    @classmethod
    def from_header(cls, value: str) -> SegData:
        """Read the header's value: standard base64 of the message; empty is an empty one.

        Raises:
            ParseError: not base64, or not the message.
        """
        return cls.parse(from_base64(value))

    def to_header(self) -> str:
        return b64encode(self.serialise()).decode()

    @classmethod
    def parse(cls, data: bytes) -> SegData:
        return cls.from_message(decode(pb.SegData, data))

    def serialise(self) -> bytes:
        return encode(self.to_message)

    @classmethod
    def from_message(cls, message: pb.SegData) -> SegData:
        token = capabilities = None
        if message.HasField("auth_token"):
            token = AuthToken.from_message(message.auth_token)
        if message.HasField("capabilities"):
            capabilities = Capabilities.from_message(message.capabilities)
        return cls(
            manifest_id=message.manifestId,
            auth_token=token,
            capabilities=capabilities,
            sequence=message.seq,
            hash=message.hash,
            profiles=message.profiles,
            signature=message.sig,
            duration_ms=message.duration,
        )

    def to_message(self) -> pb.SegData:
        return pb.SegData(
            manifestId=self.manifest_id,
            seq=self.sequence,
            hash=self.hash,
            profiles=self.profiles,
            sig=self.signature,
            duration=self.duration_ms,
            capabilities=self.capabilities.to_message() if self.capabilities else None,
            auth_token=self.auth_token.to_message() if self.auth_token else None,
        )


def from_base64(value: str) -> bytes:
    """Standard base64, strictly.

    Raises:
        ParseError: any character out of its alphabet, or a wrong length.
    """
    try:
        return b64decode(value, validate=True)
    except ValueError as error:
        raise ParseError(f"base64 decode error: {error}", code="base64") from error
