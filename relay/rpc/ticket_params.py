"""TicketParams: the terms under which an orchestrator takes tickets. Absent off-chain.

Here they are only carried; whole numbers travel as big-endian bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.rpc import lp_rpc_pb2 as pb
from relay.rpc.wire import decode, encode


@dataclass(frozen=True, slots=True)
class ExpirationParams:
    """The round, and the hash of its block, at which a ticket was made."""

    creation_round: int
    creation_round_block_hash: bytes

    @classmethod
    def from_message(cls, message: pb.TicketExpirationParams) -> ExpirationParams:
        return cls(message.creation_round, message.creation_round_block_hash)

    def to_message(self) -> pb.TicketExpirationParams:
        return pb.TicketExpirationParams(
            creation_round=self.creation_round,
            creation_round_block_hash=self.creation_round_block_hash,
        )


@dataclass(frozen=True, slots=True)
class TicketParams:
    """
    Attributes:
        recipient: 20-byte address.
        face_value: wei, big-endian.
        win_prob: big-endian, of 2**256 - 1.
        recipient_rand_hash: 32 bytes.
        seed: big-endian.
        expiration_block: big-endian.
        expiration_params: None when absent.
    """

    recipient: bytes
    face_value: bytes
    win_prob: bytes
    recipient_rand_hash: bytes
    seed: bytes
    expiration_block: bytes
    expiration_params: ExpirationParams | None = None

    @classmethod
    def parse(cls, data: bytes) -> TicketParams:
        return cls.from_message(decode(pb.TicketParams, data))

    def serialise(self) -> bytes:
        return encode(self.to_message)

    @classmethod
    def from_message(cls, message: pb.TicketParams) -> TicketParams:
        expiration = None
        if message.HasField("expiration_params"):
            expiration = ExpirationParams.from_message(message.expiration_params)
        return cls(
            message.recipient,
            message.face_value,
            message.win_prob,
            message.recipient_rand_hash,
            message.seed,
            message.expiration_block,
            expiration,
        )

    def to_message(self) -> pb.TicketParams:
        return pb.TicketParams(
            recipient=self.recipient,
            face_value=self.face_value,
            win_prob=self.win_prob,
            recipient_rand_hash=self.recipient_rand_hash,
            seed=self.seed,
            expiration_block=self.expiration_block,
            expiration_params=(
                self.expiration_params.to_message() if self.expiration_params else None
            ),
        )
