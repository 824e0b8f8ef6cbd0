"""Payment: the tickets of a ``Livepeer-Payment`` header. Empty off-chain."""

from __future__ import annotations

from dataclasses import dataclass

from relay.rpc import lp_rpc_pb2 as pb
from relay.rpc.price_info import PriceInfo
from relay.rpc.ticket_params import ExpirationParams, TicketParams
from relay.rpc.wire import decode, encode


@dataclass(frozen=True, slots=True)
class TicketSenderParams:
    """One ticket: its nonce, and the sender's signature over the ticket hash."""

    sender_nonce: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Payment:
    """
    Attributes:
        sender: 20-byte address; empty off-chain.
        ticket_params: the terms that the tickets were made under; None without tickets.
        expiration_params: None when absent.
        tickets: the tickets themselves.
        expected_price: must be the advertised pair, number for number.
    """

    sender: bytes = b""
    ticket_params: TicketParams | None = None
    expiration_params: ExpirationParams | None = None
    tickets: tuple[TicketSenderParams, ...] = ()
    expected_price: PriceInfo | None = None

    @classmethod
    def parse(cls, data: bytes) -> Payment:
        return cls.from_message(decode(pb.Payment, data))

    def serialise(self) -> bytes:
        return encode(self.to_message)

    @classmethod
    def from_message(cls, message: pb.Payment) -> Payment:
        params = expiration = price = None
        if message.HasField("ticket_params"):
            params = TicketParams.from_message(message.ticket_params)
        if message.HasField("expiration_params"):
            expiration = ExpirationParams.from_message(message.expiration_params)
        if message.HasField("expected_price"):
            price = PriceInfo.from_message(message.expected_price)
        tickets = tuple(
            TicketSenderParams(item.sender_nonce, item.sig) for item in message.ticket_sender_params
        )
        return cls(message.sender, params, expiration, tickets, price)

    def to_message(self) -> pb.Payment:
        return pb.Payment(
            ticket_params=self.ticket_params.to_message() if self.ticket_params else None,
            sender=self.sender,
            expiration_params=(
                self.expiration_params.to_message() if self.expiration_params else None
            ),
            ticket_sender_params=[
                pb.TicketSenderParams(sender_nonce=item.sender_nonce, sig=item.signature)
                for item in self.tickets
            ],
            expected_price=self.expected_price.to_message() if self.expected_price else None,
        )
