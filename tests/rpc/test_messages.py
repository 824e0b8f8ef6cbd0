"""Every message of the node protocol: recorded bytes, round trips, bytes from strangers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import BadInput, ParseError
from relay.rpc.auth_token import AuthToken
from relay.rpc.capabilities import (
    DEFAULT_CAPABILITIES,
    LIVE_VIDEO_TO_VIDEO,
    Capabilities,
    ModelConstraint,
    pack,
)
from relay.rpc.end_session import EndSessionRequest
from relay.rpc.hardware import Gpu, HardwareInformation
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.orchestrator_request import NO_ADDRESS, OrchestratorRequest
from relay.rpc.payment import Payment, TicketSenderParams
from relay.rpc.payment_result import PaymentResult
from relay.rpc.ping import PingPong
from relay.rpc.price_info import PriceInfo
from relay.rpc.seg_data import HASH_OF_NOTHING, SegData
from relay.rpc.ticket_params import ExpirationParams, TicketParams
from relay.rpc.wire import MAX_MESSAGE
from tests.rpc.captured import captured

LIVE_WORD = 0x8_0400_5FFF

uint32 = st.integers(0, 2**32 - 1)
uint64 = st.integers(0, 2**64 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
int32 = st.integers(-(2**31), 2**31 - 1)
text = st.text(max_size=20)
blob = st.binary(max_size=40)

tokens = st.builds(AuthToken, blob, text, int64)
prices = st.builds(PriceInfo, int64, int64, uint32, text)
expirations = st.builds(ExpirationParams, int64, blob)
tickets = st.builds(TicketParams, blob, blob, blob, blob, blob, blob, st.none() | expirations)
constraints = st.builds(ModelConstraint, st.booleans(), uint32, text, uint32)
capabilities = st.builds(
    Capabilities,
    bitstring=st.lists(uint64, max_size=3).map(tuple),
    mandatories=st.lists(uint64, max_size=2).map(tuple),
    capacities=st.dictionaries(uint32, uint32, max_size=4),
    version=text,
    constraints=st.dictionaries(uint32, st.dictionaries(text, constraints, max_size=3), max_size=2),
    min_version=text,
)
gpus = st.builds(Gpu, text, text, int32, int32, int64, int64)
hardware = st.builds(HardwareInformation, text, text, st.dictionaries(text, gpus, max_size=3))
infos = st.builds(
    OrchestratorInfo,
    transcoder=text,
    address=blob,
    capabilities=st.none() | capabilities,
    auth_token=st.none() | tokens,
    price_info=st.none() | prices,
    ticket_params=st.none() | tickets,
    hardware=st.lists(hardware, max_size=2).map(tuple),
    capabilities_prices=st.lists(prices, max_size=2).map(tuple),
    nodes=st.lists(text, max_size=2).map(tuple),
)
messages: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (AuthToken, tokens),
    (PriceInfo, prices),
    (TicketParams, tickets),
    (Capabilities, capabilities),
    (HardwareInformation, hardware),
    (OrchestratorInfo, infos),
    (
        OrchestratorRequest,
        st.builds(OrchestratorRequest, blob, blob, st.none() | capabilities, st.booleans()),
    ),
    (
        Payment,
        st.builds(
            Payment,
            blob,
            st.none() | tickets,
            st.none() | expirations,
            st.lists(st.builds(TicketSenderParams, uint32, blob), max_size=3).map(tuple),
            st.none() | prices,
        ),
    ),
    (PaymentResult, st.builds(PaymentResult, st.none() | infos)),
    (
        SegData,
        st.builds(
            SegData,
            blob,
            st.none() | tokens,
            st.none() | capabilities,
            int64,
            blob,
            blob,
            blob,
            int32,
        ),
    ),
    (PingPong, st.builds(PingPong, blob)),
    (EndSessionRequest, st.builds(EndSessionRequest, st.none() | tokens)),
]
kinds = pytest.mark.parametrize(
    ("kind", "values"), messages, ids=[kind.__name__ for kind, _ in messages]
)


@kinds
@given(data=st.data())
def test_a_message_survives_the_wire(
    kind: Any, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    value = data.draw(values)
    assert kind.parse(value.serialise()) == value


@kinds
@given(data=st.binary(max_size=200))
def test_bytes_from_strangers_parse_or_are_refused(
    kind: Any, values: st.SearchStrategy[Any], data: bytes
) -> None:
    with suppress(ParseError):
        value = kind.parse(data)
        assert kind.parse(value.serialise()) == value


@pytest.mark.parametrize("kind", [OrchestratorInfo, SegData, PaymentResult])
def test_a_message_over_the_bound_is_refused_unread(kind: Any) -> None:
    with pytest.raises(ParseError, match="over"):
        kind.parse(b"\0" * (MAX_MESSAGE + 1))


@pytest.mark.parametrize(
    "build",
    [
        lambda: PriceInfo(2**63, 1),
        lambda: Capabilities(bitstring=(-1,)),
        lambda: AuthToken(b"", "\ud800", 0),
    ],
)
def test_a_value_that_does_not_fit_is_refused(build: Callable[[], Any]) -> None:
    with pytest.raises(BadInput):
        build().serialise()


@pytest.mark.parametrize("transport", ["tls", "h2c"])
def test_a_stock_gateways_request_is_understood(transport: str) -> None:
    data = captured(f"get-orchestrator/stock-gateway-asks.{transport}.request.bin")
    request = OrchestratorRequest.parse(data)
    assert request.address == NO_ADDRESS
    assert request.signature == b""
    assert not request.ignore_capacity_check
    assert request.capabilities is not None
    assert request.capabilities.bitstring == (LIVE_WORD,)
    assert request.capabilities.version == "0.9.1-anchor"
    assert dict(request.capabilities.models()) == {"ident": ModelConstraint()}
    assert set(request.capabilities.capacities) == DEFAULT_CAPABILITIES | {LIVE_VIDEO_TO_VIDEO}


def test_our_request_says_what_a_stock_gateway_says() -> None:
    theirs = OrchestratorRequest.parse(
        captured("get-orchestrator/stock-gateway-asks.tls.request.bin")
    )
    ours = OrchestratorRequest.parse(OrchestratorRequest.for_live("ident").serialise())
    assert theirs.capabilities is not None
    assert ours.capabilities is not None
    assert ours.address == theirs.address
    assert ours.capabilities.bitstring == theirs.capabilities.bitstring
    assert ours.capabilities.capacities == theirs.capabilities.capacities
    assert ours.capabilities.constraints == theirs.capabilities.constraints


@pytest.mark.parametrize(
    "name", ["like-go-gateway", "no-capabilities", "like-python-sdk", "unknown-model"]
)
def test_a_stock_orchestrators_answer_is_understood(name: str) -> None:
    info = OrchestratorInfo.parse(
        captured(f"get-orchestrator/stock-orchestrator.{name}.response.bin")
    )
    assert info.transcoder == "https://127.0.0.1:8935"
    assert info.address == NO_ADDRESS
    assert info.price_info is None
    assert info.ticket_params is None
    assert info.auth_token is not None
    assert len(info.auth_token.token) == 32
    assert info.capabilities is not None
    assert dict(info.capabilities.models()) == {
        "ident": ModelConstraint(warm=True, runner_version="0.9.1")
    }
    assert (info.hardware == (HardwareInformation("live-video-to-video", "ident"),)) == (
        name == "no-capabilities"
    )


@pytest.mark.parametrize("transport", ["tls", "h2c"])
def test_the_answer_that_a_stock_gateway_took_is_what_we_would_write(transport: str) -> None:
    data = captured(f"get-orchestrator/stock-gateway-asks.{transport}.accepted-answer.bin")
    info = OrchestratorInfo.parse(data)
    assert len(info.serialise()) == len(data)  # entries of a map may come in another order
    assert OrchestratorInfo.parse(info.serialise()) == info
    assert info.capabilities is not None
    constraint = ModelConstraint(warm=True, capacity=1, runner_version="0.9.1")
    assert info.capabilities == Capabilities.live({"ident": constraint}, version="0.9.1")


def test_a_stock_gateways_segment_header_is_understood_and_written_the_same() -> None:
    theirs = SegData.parse(captured("live-job/stock-gateway.job.livepeer-segment.bin"))
    assert theirs.manifest_id == b"35_ident"
    assert theirs.hash == HASH_OF_NOTHING
    assert theirs.auth_token is not None
    assert theirs.capabilities is not None
    assert theirs == SegData.for_job("ident", theirs.auth_token, theirs.capabilities)
    assert SegData.from_header(theirs.to_header()) == theirs


def test_a_stock_payment_result_is_understood() -> None:
    result = PaymentResult.parse(captured("live-job/stock-orchestrator.payment-result.bin"))
    assert result.info is not None
    assert result.info.auth_token is not None
    assert result.info.auth_token.session_id == "ab43268c"


@pytest.mark.parametrize("value", ["%%%", "QjI", "QjI=\n", "ä"])
def test_a_segment_header_that_is_not_base64_is_refused(value: str) -> None:
    with pytest.raises(ParseError, match="base64"):
        SegData.from_header(value)


def test_an_empty_segment_header_is_an_empty_message() -> None:
    assert SegData.from_header("") == SegData()


def test_absent_constraints_are_told_from_empty_ones() -> None:
    assert Capabilities.parse(Capabilities().serialise()).constraints is None
    assert Capabilities.parse(Capabilities(constraints={}).serialise()).constraints == {}


def test_bits_stand_in_their_words() -> None:
    assert pack(DEFAULT_CAPABILITIES) == (0x400_5FFF,)
    assert pack({35} | DEFAULT_CAPABILITIES) == (LIVE_WORD,)
    assert pack([64, 129]) == (0, 1, 2)
    wide = Capabilities(bitstring=pack([64, 129]))
    assert [bit for bit in range(300) if wide.has(bit)] == [64, 129]
