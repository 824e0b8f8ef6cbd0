"""Which nodes fit together, by the network's rules and against a stock node's own words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import PeerRefused
from relay.rpc.capabilities import Capabilities, ModelConstraint, pack
from relay.rpc.compatibility import at_least, check_node, fits, parse_version
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.orchestrator_request import OrchestratorRequest
from tests.rpc.captured import captured

OURS = Capabilities.live({"m": ModelConstraint()})
THEIRS = Capabilities.live({"m": ModelConstraint(warm=True)}, version="0.9.1")


@pytest.mark.parametrize(
    ("version", "minimum", "good"),
    [
        ("0.9.1", "", True),
        ("undefined", "", True),
        ("0.9.1", "0.9.1", True),
        ("0.9.1-anchor", "0.9.1", True),
        ("0.9.1", "0.9.1-rc2", True),
        ("v0.10.0", "0.9.9", True),
        ("1", "0.99.99", True),
        ("0.9.0", "0.9.1", False),
        ("0.9", "0.9.1", False),
        ("undefined", "0.0.1", False),
        ("", "0.0.1", False),
        ("0.9.1.2", "0.0.1", False),
        ("0.9.1", "newest", False),
    ],
)
def test_versions_are_compared_without_their_suffix(version: str, minimum: str, good: bool) -> None:
    assert at_least(version, minimum) is good


@given(st.text(max_size=40))
def test_any_text_is_a_version_or_none(text: str) -> None:
    assert parse_version(text) is None or parse_version(text + "-x") == parse_version(text)


def refused(ours: Capabilities, theirs: Capabilities | None) -> str:
    with pytest.raises(PeerRefused) as caught:
        check_node(ours, theirs)
    assert caught.value.code == "orchestrator_incompatible"
    return str(caught.value)


def test_who_fits_and_who_does_not() -> None:
    check_node(OURS, THEIRS)
    check_node(OURS, replace(THEIRS, mandatories=OURS.bitstring))
    check_node(OURS, replace(THEIRS, bitstring=()))
    check_node(replace(OURS, min_version="0.9.1"), THEIRS)
    assert refused(OURS, None) == "it tells no capabilities"
    assert refused(OURS, replace(THEIRS, constraints=None)) == "it tells no capabilities"
    assert "[13, 64]" in refused(OURS, replace(THEIRS, mandatories=pack([0, 13, 64])))
    assert "no live video" in refused(OURS, replace(THEIRS, bitstring=pack(range(13))))
    assert "is not 0.9.2 or newer" in refused(replace(OURS, min_version="0.9.2"), THEIRS)
    assert "(none)" in refused(replace(OURS, min_version="0.9.2"), replace(THEIRS, version=""))


def test_a_model_is_warm_and_new_enough() -> None:
    told = ModelConstraint(warm=False, runner_version="0.2.0")
    assert fits(ModelConstraint(), told)
    assert fits(ModelConstraint(runner_version="0.2.0"), told)
    assert not fits(ModelConstraint(runner_version="0.2.1"), told)
    assert not fits(ModelConstraint(warm=True), told)
    assert not fits(ModelConstraint(runner_version="0.0.1"), ModelConstraint())


@pytest.mark.parametrize("name", ["like-go-gateway", "no-capabilities", "like-python-sdk"])
def test_a_stock_orchestrator_fits_however_it_is_asked(name: str) -> None:
    info = OrchestratorInfo.parse(
        captured(f"get-orchestrator/stock-orchestrator.{name}.response.bin")
    )
    check_node(replace(OURS, min_version="0.9.1"), info.capabilities)
    assert info.capabilities is not None
    assert list(info.capabilities.models()) == ["ident"]


def test_a_stock_gateway_fits_us_and_we_ask_as_it_does() -> None:
    data = captured("get-orchestrator/stock-gateway-asks.tls.request.bin")
    theirs = OrchestratorRequest.parse(data).capabilities
    assert theirs is not None
    check_node(theirs, OURS)
    assert (theirs.bitstring, dict(theirs.capacities)) == (OURS.bitstring, dict(OURS.capacities))
