"""RTP packets: what is read, what is refused, what comes back the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ParseError
from relay.protocols.webrtc.rtp import (
    ONE_BYTE,
    TWO_BYTE,
    RtpPacket,
    elements,
    is_rtcp,
    pack_elements,
    parse_rtp,
    transport_sequence,
    unwrap_rtx,
    wrap_rtx,
)

PLAIN = bytes.fromhex("80e0000100000002000000035566")


def test_reads_a_plain_packet() -> None:
    packet = parse_rtp(PLAIN)
    assert packet == RtpPacket(96, True, 1, 2, 3, b"\x55\x66")
    assert packet.serialise() == PLAIN


def test_reads_over_fifteen_contributing_sources() -> None:
    data = bytes([0x8F]) + PLAIN[1:12] + bytes(range(60)) + b"pay"
    packet = parse_rtp(data)
    assert packet.payload == b"pay"
    assert len(packet.csrcs) == 15
    assert packet.csrcs[1] == 0x04050607
    assert packet.serialise() == data


def test_refuses_fifteen_contributing_sources_that_are_not_there() -> None:
    with pytest.raises(ParseError):
        parse_rtp(bytes([0x8F]) + PLAIN[1:])


def test_takes_padding_off() -> None:
    data = bytes([0xA0]) + PLAIN[1:] + b"\0\0\3"
    assert parse_rtp(data).payload == b"\x55\x66"


def test_a_packet_of_padding_only_has_an_empty_payload() -> None:
    assert parse_rtp(bytes([0xA0]) + PLAIN[1:12] + b"\0\0\0\4").payload == b""


@pytest.mark.parametrize("padding", [0, 6, 255])
def test_refuses_padding_longer_than_the_payload(padding: int) -> None:
    with pytest.raises(ParseError):
        parse_rtp(bytes([0xA0]) + PLAIN[1:12] + b"\0\0\0\0" + bytes([padding]))


def test_refuses_padding_without_a_payload() -> None:
    with pytest.raises(ParseError):
        parse_rtp(bytes([0xA0]) + PLAIN[1:12])


@pytest.mark.parametrize("words", [1, 2, 0xFFFF])
def test_refuses_an_extension_longer_than_the_packet(words: int) -> None:
    with pytest.raises(ParseError):
        parse_rtp(bytes([0x90]) + PLAIN[1:12] + b"\xbe\xde" + words.to_bytes(2, "big") + b"abc")


def test_refuses_an_extension_without_its_length() -> None:
    with pytest.raises(ParseError):
        parse_rtp(bytes([0x90]) + PLAIN[1:12] + b"\xbe\xde")


@pytest.mark.parametrize("data", [b"", PLAIN[:11], b"\x40" + PLAIN[1:], b"\x00" * 20])
def test_refuses_what_is_short_or_of_another_version(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_rtp(data)


def test_reads_extension_elements_of_both_forms() -> None:
    assert list(elements(ONE_BYTE, b"\x10a\x00\x21bc")) == [(1, b"a"), (2, b"bc")]
    assert list(elements(TWO_BYTE, b"\x01\x00\x00\x1f\x02bc")) == [(1, b""), (31, b"bc")]


def test_an_element_that_is_cut_off_ends_the_list() -> None:
    assert list(elements(ONE_BYTE, b"\x10a\x2fbc")) == [(1, b"a")]
    assert list(elements(TWO_BYTE, b"\x01")) == []
    assert list(elements(TWO_BYTE, b"\x01\x05a")) == []


def test_element_fifteen_ends_the_list_and_unknown_profiles_have_none() -> None:
    assert list(elements(ONE_BYTE, b"\xf0a\x10b")) == []
    assert list(elements(0x1234, b"\x10a")) == []


@pytest.mark.parametrize(
    "values",
    [
        {3: (513).to_bytes(2, "big")},
        {1: b"0", 3: (513).to_bytes(2, "big")},
        {1: b"x" * 17, 3: (513).to_bytes(2, "big")},
    ],
)
def test_finds_the_transport_sequence_number_wherever_it_is(values: dict[int, bytes]) -> None:
    profile, extension = pack_elements(values)
    packet = RtpPacket(96, False, 1, 2, 3, b"", profile, extension)
    assert transport_sequence(parse_rtp(packet.serialise()), 3) == 513


def test_no_transport_sequence_number_is_none() -> None:
    assert transport_sequence(parse_rtp(PLAIN), 3) is None
    profile, extension = pack_elements({3: b"x"})
    assert transport_sequence(RtpPacket(96, False, 1, 2, 3, b"", profile, extension), 3) is None


def test_a_retransmission_gives_the_original_packet() -> None:
    rtx = RtpPacket(97, True, 900, 7, 44, wrap_rtx(65535, b"body"))
    assert unwrap_rtx(rtx, 96, 3) == RtpPacket(96, True, 65535, 7, 3, b"body")


@pytest.mark.parametrize("payload", [b"", b"\x01"])
def test_a_retransmission_of_nothing_is_padding(payload: bytes) -> None:
    assert unwrap_rtx(RtpPacket(97, True, 900, 7, 44, payload), 96, 3) is None


def test_tells_rtcp_from_rtp_by_the_second_byte() -> None:
    assert is_rtcp(bytes([0x80, 200]))
    assert is_rtcp(bytes([0x81, 206]))
    assert not is_rtcp(PLAIN)
    assert not is_rtcp(b"\x80")


@given(st.binary(max_size=120))
def test_bytes_from_strangers_are_read_or_refused(data: bytes) -> None:
    try:
        packet = parse_rtp(data)
    except ParseError:
        return
    assert len(packet.payload) <= len(data) - 12
    list(elements(packet.profile, packet.extension))
    unwrap_rtx(packet, 96, 1)
    transport_sequence(packet, 3)


@given(
    st.builds(
        RtpPacket,
        payload_type=st.integers(0, 127),
        marker=st.booleans(),
        sequence=st.integers(0, 0xFFFF),
        timestamp=st.integers(0, 0xFFFFFFFF),
        ssrc=st.integers(0, 0xFFFFFFFF),
        payload=st.binary(max_size=40),
        csrcs=st.lists(st.integers(0, 0xFFFFFFFF), max_size=15).map(tuple),
    ),
    st.dictionaries(st.integers(1, 14), st.binary(min_size=1, max_size=20), max_size=4),
)
def test_a_packet_comes_back_as_it_was(packet: RtpPacket, values: dict[int, bytes]) -> None:
    packet.profile, packet.extension = pack_elements(values)
    read = parse_rtp(packet.serialise())
    assert read == packet
    assert dict(elements(read.profile, read.extension)) == values
