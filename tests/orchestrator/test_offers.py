"""The answer to GetOrchestrator, and when there is none."""

from __future__ import annotations

import pytest

from relay.errors import Unavailable
from relay.orchestrator.offers import Stall, admit, offer
from relay.rpc.auth_token import AuthToken
from relay.rpc.capabilities import Capabilities, ModelConstraint
from relay.rpc.hardware import HardwareInformation
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.orchestrator_request import OrchestratorRequest
from tests.rpc.captured import captured

TOKEN = AuthToken(b"t", "0badcafe", 1_800_000_000)
CARDS = (HardwareInformation("live-video-to-video", "ident"),)
FREE = ModelConstraint(warm=True, capacity=1, runner_version="0.9.1")
FULL = ModelConstraint(warm=True, capacity=0, runner_version="0.9.1", capacity_in_use=1)


def ask(*models: str, ignore: bool = False) -> OrchestratorRequest:
    capabilities = OrchestratorRequest.for_live(*models).capabilities
    return OrchestratorRequest(capabilities=capabilities, ignore_capacity_check=ignore)


def told(request: OrchestratorRequest, **models: ModelConstraint) -> OrchestratorInfo:
    stall = Stall(models, CARDS)
    answer = offer(request, stall, service_url="https://127.0.0.1:8935", token=TOKEN)
    return OrchestratorInfo.parse(answer.serialise())


def test_the_offer_is_the_one_that_a_stock_gateway_took() -> None:
    theirs = OrchestratorInfo.parse(
        captured("get-orchestrator/stock-gateway-asks.tls.accepted-answer.bin")
    )
    ours = told(ask("ident"), ident=FREE)
    assert ours.capabilities == theirs.capabilities
    assert (ours.transcoder, ours.address) == (theirs.transcoder, theirs.address)
    assert (ours.price_info, ours.ticket_params, ours.hardware) == (None, None, ())
    assert ours.auth_token == TOKEN


def test_an_offer_without_models_still_has_constraints() -> None:
    # A stock gateway's process does not survive an answer without them.
    info = told(ask("ident"))
    assert info.capabilities is not None
    assert info.capabilities.constraints == {35: {}}
    assert info.capabilities.bitstring == (0x8_0400_5FFF,)


def test_who_asks_for_nothing_in_particular_is_told_of_the_cards() -> None:
    info = told(OrchestratorRequest(), ident=FULL)
    assert info.hardware == CARDS
    assert info.capabilities is not None
    assert info.capabilities.models() == {"ident": FULL}


@pytest.mark.parametrize(
    ("request_", "models", "capped"),
    [
        (ask("a"), {"a": FREE}, False),
        (ask("a"), {"a": FULL}, True),
        (ask("a", ignore=True), {"a": FULL}, False),
        (ask("a", "b"), {"a": FULL, "b": FREE}, False),
        (ask("a", "b"), {"a": FULL, "b": FULL}, True),
        (ask("other"), {"a": FULL}, False),
        (OrchestratorRequest(), {"a": FULL}, False),
        (OrchestratorRequest(capabilities=Capabilities()), {"a": FULL}, False),
    ],
)
def test_a_full_node_says_so(
    request_: OrchestratorRequest, models: dict[str, ModelConstraint], capped: bool
) -> None:
    if capped:
        with pytest.raises(Unavailable) as caught:
            admit(request_, Stall(models))
        assert str(caught.value) == "Invalid orchestrator request: OrchestratorCapped"
    else:
        admit(request_, Stall(models))


def test_a_draining_node_answers_only_sessions_that_go_on() -> None:
    stall = Stall({"a": FREE}, draining=True)
    for request in (ask("a"), OrchestratorRequest()):
        with pytest.raises(Unavailable, match="draining"):
            admit(request, stall)
    admit(ask("a", ignore=True), stall)
