"""The answer to GetOrchestrator. Pure.

What a stock gateway needs in it, and what it does not survive, is in live-AI's gotchas:
constraints are always there, the whole default set of bits and 35 is set, ``address`` is
twenty zero bytes, and off-chain there is no price.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from relay.errors import Unavailable
from relay.rpc.auth_token import AuthToken
from relay.rpc.capabilities import Capabilities, ModelConstraint
from relay.rpc.hardware import HardwareInformation
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.orchestrator_request import NO_ADDRESS, OrchestratorRequest

PREFIX = "Invalid orchestrator request: "
"""What stock nodes put before the reason of a refusal."""


@dataclass(frozen=True, slots=True)
class Stall:
    """All that is for sale now.

    Attributes:
        models: model id to what is told of it; ``capacity`` counts free places.
        hardware: what the runners told of their cards.
        draining: nothing new is taken.
    """

    models: Mapping[str, ModelConstraint]
    hardware: tuple[HardwareInformation, ...] = ()
    draining: bool = False


def admit(request: OrchestratorRequest, stall: Stall) -> None:
    """Whether to make an offer at all.

    A request that names only models which nobody sells here gets the normal answer: the
    gateway sees by itself that they are missing.

    Raises:
        Unavailable: every model that it names is taken (``OrchestratorCapped``), or this
            node is going away.
    """
    if request.ignore_capacity_check:
        return
    if stall.draining:
        raise Unavailable(PREFIX + "draining", code="draining")
    wanted = request.capabilities.models() if request.capabilities else {}
    known = [stall.models[model] for model in wanted if model in stall.models]
    if known and not any(model.capacity for model in known):
        raise Unavailable(PREFIX + "OrchestratorCapped", code="capped")


def offer(
    request: OrchestratorRequest, stall: Stall, *, service_url: str, token: AuthToken
) -> OrchestratorInfo:
    """The answer itself; hardware only to those who ask for nothing in particular."""
    return OrchestratorInfo(
        transcoder=service_url,
        address=NO_ADDRESS,
        capabilities=Capabilities.live(stall.models),
        auth_token=token,
        hardware=stall.hardware if request.capabilities is None else (),
    )
