"""Offers of an orchestrator that names far too much, or what cannot be."""

from __future__ import annotations

import time

import pytest

from relay.errors import ParseError
from relay.rpc import lp_rpc_pb2 as pb
from relay.rpc.capabilities import Capabilities, ModelConstraint
from relay.rpc.orchestrator_info import OrchestratorInfo


def test_ten_thousand_capabilities_are_read_at_once() -> None:
    message = pb.OrchestratorInfo(transcoder="http://h")
    message.capabilities.bitstring.extend([2**64 - 1] * 10_000)
    for number in range(10_000):
        message.capabilities.capacities[number] = 1
        message.capabilities.constraints.PerCapability[35].models[f"model-{number}"].warm = True
    data = message.SerializeToString()
    began = time.process_time()
    info = OrchestratorInfo.parse(data)
    assert time.process_time() - began < 5
    assert info.capabilities is not None
    assert len(info.capabilities.models()) == 10_000
    assert info.capabilities.models()["model-7"] == ModelConstraint(warm=True)
    assert info.capabilities.has(35)
    assert not info.capabilities.has(10**12)


def test_a_model_may_be_called_anything_that_is_text() -> None:
    names = ["", "\0", "a" * 100_000, "../..", "“x”\r\nA: b", "🎥"]
    offered = Capabilities.live(dict.fromkeys(names, ModelConstraint()))
    assert set(Capabilities.parse(offered.serialise()).models()) == set(names)


def test_text_that_is_none_is_refused() -> None:
    with pytest.raises(ParseError):
        OrchestratorInfo.parse(b"\x0a\x02\xff\xfe")
