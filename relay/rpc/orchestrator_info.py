"""OrchestratorInfo: what an orchestrator answers, and what a session goes on with."""

from __future__ import annotations

from dataclasses import dataclass

from relay.rpc import lp_rpc_pb2 as pb
from relay.rpc.auth_token import AuthToken
from relay.rpc.capabilities import Capabilities
from relay.rpc.hardware import HardwareInformation
from relay.rpc.price_info import PriceInfo
from relay.rpc.ticket_params import TicketParams
from relay.rpc.wire import decode, encode


@dataclass(frozen=True, slots=True)
class OrchestratorInfo:
    """
    Attributes:
        transcoder: where jobs go, and where this call is made again; an empty one
            means that the node does no work.
        address: 20 bytes; a stock gateway refuses an answer without it.
        capabilities: None when absent. A stock gateway dies of that, or of
            capabilities without constraints: an answer of ours always has both.
        auth_token: to be sent back with each job; None when absent.
        price_info: None off-chain.
        ticket_params: None off-chain.
        hardware: only in the answer to a request without capabilities.
        capabilities_prices: likewise.
        nodes: more addresses of the same operator.
    """

    transcoder: str
    address: bytes
    capabilities: Capabilities | None = None
    auth_token: AuthToken | None = None
    price_info: PriceInfo | None = None
    ticket_params: TicketParams | None = None
    hardware: tuple[HardwareInformation, ...] = ()
    capabilities_prices: tuple[PriceInfo, ...] = ()
    nodes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> OrchestratorInfo:
        return cls.from_message(decode(pb.OrchestratorInfo, data))

    def serialise(self) -> bytes:
        return encode(self.to_message)

    @classmethod
    def from_message(cls, message: pb.OrchestratorInfo) -> OrchestratorInfo:
        return cls(
            transcoder=message.transcoder,
            address=message.address,
            capabilities=(
                Capabilities.from_message(message.capabilities)
                if message.HasField("capabilities")
                else None
            ),
            auth_token=(
                AuthToken.from_message(message.auth_token)
                if message.HasField("auth_token")
                else None
            ),
            price_info=(
                PriceInfo.from_message(message.price_info)
                if message.HasField("price_info")
                else None
            ),
            ticket_params=(
                TicketParams.from_message(message.ticket_params)
                if message.HasField("ticket_params")
                else None
            ),
            hardware=tuple(HardwareInformation.from_message(item) for item in message.hardware),
            capabilities_prices=tuple(
                PriceInfo.from_message(item) for item in message.capabilities_prices
            ),
            nodes=tuple(message.nodes),
        )

    def to_message(self) -> pb.OrchestratorInfo:
        return pb.OrchestratorInfo(
            transcoder=self.transcoder,
            ticket_params=self.ticket_params.to_message() if self.ticket_params else None,
            price_info=self.price_info.to_message() if self.price_info else None,
            address=self.address,
            capabilities=self.capabilities.to_message() if self.capabilities else None,
            auth_token=self.auth_token.to_message() if self.auth_token else None,
            hardware=[item.to_message() for item in self.hardware],
            capabilities_prices=[item.to_message() for item in self.capabilities_prices],
            nodes=self.nodes,
        )
