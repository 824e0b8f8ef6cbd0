"""STUN messages: what we write we read, and nothing from strangers raises but ParseError."""

from __future__ import annotations

import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ParseError
from relay.protocols.webrtc import stun

# RFC 5769 section 2.1: sample request with a short-term credential.
RFC5769_REQUEST = binascii.unhexlify(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e20746573"
    "7420636c69656e74002400046e0001ff80290008932ff9b151263b3600060009"
    "6576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249"
    "c1b571a280280004e57a3bcf"
)
# RFC 5769 section 2.2: sample IPv4 response; 192.0.2.1 port 32853.
RFC5769_RESPONSE = binascii.unhexlify(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563"
    "746f7220002000080001a147e112a643000800142b91f599fd9e90c38c7489f9"
    "2af9ba53f06be7d780280004c07d4c96"
)
# RFC 5769 section 2.3: sample IPv6 response.
RFC5769_RESPONSE6 = binascii.unhexlify(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563"
    "746f7220002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d900080014"
    "a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)
PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"

keys = st.binary(min_size=1, max_size=40)
transactions = st.binary(min_size=12, max_size=12)


def test_rfc5769_request() -> None:
    message = stun.parse(RFC5769_REQUEST)
    assert message.kind == stun.BINDING_REQUEST
    assert message.attributes[stun.USERNAME] == b"evtj:h6vY"
    assert message.integer(stun.PRIORITY, 4) == 0x6E0001FF
    assert message.integrity_holds(PASSWORD)
    assert not message.integrity_holds(PASSWORD + b"x")


@pytest.mark.parametrize(
    ("data", "host"),
    [(RFC5769_RESPONSE, "192.0.2.1"), (RFC5769_RESPONSE6, "2001:db8:1234:5678:11:2233:4455:6677")],
)
def test_rfc5769_responses(data: bytes, host: str) -> None:
    message = stun.parse(data)
    assert message.integrity_holds(PASSWORD)
    value = message.attributes[stun.XOR_MAPPED_ADDRESS]
    assert stun.parse_xor_address(value, message.transaction) == (host, 32853)
    assert stun.xor_address((host, 32853, 0, 0), message.transaction) == value


def test_a_v4_mapped_source_is_told_as_ipv4() -> None:
    transaction = bytes(12)
    value = stun.xor_address(("::ffff:192.0.2.7", 5, 0, 0), transaction)
    assert stun.parse_xor_address(value, transaction) == ("192.0.2.7", 5)


@given(
    transaction=transactions,
    key=keys,
    attributes=st.lists(
        st.tuples(
            st.integers(0, 0xFFFF).filter(lambda t: t not in (8, 0x8028)), st.binary(max_size=50)
        ),
        max_size=8,
        unique_by=lambda item: item[0],
    ),
)
def test_what_is_built_is_read(
    transaction: bytes, key: bytes, attributes: list[tuple[int, bytes]]
) -> None:
    data = stun.build(stun.BINDING_REQUEST, transaction, attributes, key)
    message = stun.parse(data)
    assert message.attributes == dict(attributes)
    assert message.transaction == transaction
    assert message.integrity_holds(key)
    assert not message.integrity_holds(key + b"\x01")


@given(data=st.binary(max_size=200))
def test_garbage_is_refused_or_read(data: bytes) -> None:
    try:
        message = stun.parse(data)
    except ParseError:
        return
    assert not message.integrity_holds(b"key")


@given(data=st.data())
def test_a_changed_byte_never_passes(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(RFC5769_REQUEST) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = bytearray(RFC5769_REQUEST)
    changed[at] ^= flip
    try:
        message = stun.parse(bytes(changed))
    except ParseError:
        return
    # Turning FINGERPRINT's type into another optional one leaves the protected part whole.
    assert at >= len(RFC5769_REQUEST) - 8 or not message.integrity_holds(PASSWORD)


def test_attributes_behind_the_integrity_are_not_read() -> None:
    data = stun.build(stun.BINDING_REQUEST, bytes(12), [], b"k")[:-8]
    extra = b"\x00\x25\x00\x00"
    head = data[:2] + (len(data) + len(extra) - 20).to_bytes(2, "big")
    message = stun.parse(head + data[4:] + extra)
    assert stun.USE_CANDIDATE not in message.attributes
    assert message.integrity_holds(b"k")


def test_error_responses_name_the_unknown_attributes() -> None:
    request = stun.parse(
        stun.build(stun.BINDING_REQUEST, bytes(12), [(0x7001, b"a"), (0xC057, b"b")], b"k")
    )
    assert request.unknown_required() == [0x7001]
    answer = stun.parse(stun.error(request, 420, "Unknown Attribute", b"k"))
    assert answer.error_code() == 420
    assert answer.attributes[stun.UNKNOWN_ATTRIBUTES] == b"\x70\x01"
    assert answer.integrity_holds(b"k")
    assert stun.parse(stun.error(request, 487, "Role Conflict", b"k")).error_code() == 487


def test_too_many_attributes_are_refused() -> None:
    data = stun.build(stun.BINDING_REQUEST, bytes(12), [(i, b"") for i in range(100)], None)
    with pytest.raises(ParseError):
        stun.parse(data)
