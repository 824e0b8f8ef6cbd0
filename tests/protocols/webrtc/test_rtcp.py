"""RTCP packets: what is read, what is refused, what comes back the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ParseError
from relay.protocols.webrtc.rtcp import (
    Bye,
    FullIntraRequest,
    Nack,
    PictureLoss,
    ReceiverReport,
    Remb,
    ReportBlock,
    Rtcp,
    SenderReport,
    SourceDescription,
    Unknown,
    compound,
    lone_report,
    parse_compound,
)

BLOCK = ReportBlock(7, 64, -3, 0x10005, 90, 0x1234, 65536)

WORD = st.integers(0, 0xFFFFFFFF)
BLOCKS = st.lists(
    st.builds(
        ReportBlock,
        ssrc=WORD,
        fraction_lost=st.integers(0, 255),
        lost=st.integers(-0x800000, 0x7FFFFF),
        highest=WORD,
        jitter=WORD,
        last_report=WORD,
        delay=WORD,
    ),
    max_size=31,
).map(tuple)
PACKETS: st.SearchStrategy[Rtcp] = st.one_of(
    st.builds(
        SenderReport,
        ssrc=WORD,
        ntp=st.integers(0, 2**64 - 1),
        timestamp=WORD,
        packets=WORD,
        octets=WORD,
        blocks=BLOCKS,
    ),
    st.builds(ReceiverReport, ssrc=WORD, blocks=BLOCKS),
    st.builds(
        SourceDescription,
        names=st.lists(st.tuples(WORD, st.text("abcdefgh-0123", max_size=40)), max_size=31).map(
            tuple
        ),
    ),
    st.builds(Bye, ssrcs=st.lists(WORD, max_size=31).map(tuple)),
    st.builds(PictureLoss, sender=WORD, media=WORD),
    st.builds(
        FullIntraRequest,
        sender=WORD,
        requests=st.lists(st.tuples(WORD, st.integers(0, 255)), max_size=5).map(tuple),
    ),
)


def test_reads_a_sender_report_of_the_standard_form() -> None:
    data = bytes.fromhex("80c800060000002ae5f1a2b38000000000015f900000001000000400")
    assert parse_compound(data) == [
        SenderReport(42, 0xE5F1A2B380000000, 90_000, 16, 1024),
    ]


def test_loss_below_zero_survives() -> None:
    (report,) = parse_compound(ReceiverReport(1, (BLOCK,)).serialise())
    assert report == ReceiverReport(1, (BLOCK,))


def test_a_lone_report_is_read_as_the_compound_is() -> None:
    lone = ReceiverReport(1, (BLOCK,)).serialise()
    assert lone_report(lone) == BLOCK
    names = SourceDescription(((1, "a"),)).serialise()
    more = ReceiverReport(1, (BLOCK, BLOCK)).serialise()
    padded = bytes([lone[0] | 0x20]) + lone[1:-1] + b"\4"
    senders = bytes([lone[0], 200]) + lone[2:]
    for other in (lone + names, more, lone[:-4], lone + bytes(4), padded, senders, b"", b"\x81"):
        assert lone_report(other) is None


def test_loss_is_kept_within_its_24_bits() -> None:
    far = ReportBlock(1, 0, 1 << 30, 0, 0, 0, 0)
    assert ReportBlock.parse(far.serialise(), 0).lost == 0x7FFFFF


def test_a_nack_packs_neighbours_into_one_item() -> None:
    nack = Nack(1, 2, (65530, 65535, 3, 10, 11, 27, 28))
    data = nack.serialise()
    assert len(data) == 12 + 4 * 3
    assert parse_compound(data) == [nack]


def test_full_intra_request_by_its_bytes() -> None:
    data = bytes.fromhex("84ce000400000001000000000000000705000000")
    assert parse_compound(data) == [FullIntraRequest(1, ((7, 5),))]
    assert FullIntraRequest(1, ((7, 5),)).serialise() == data


@pytest.mark.parametrize("bitrate", [0, 1000, 262_143, 2_500_000, 10**9])
def test_bandwidth_estimate_keeps_its_first_18_bits(bitrate: int) -> None:
    (remb,) = parse_compound(Remb(1, bitrate, (5, 6)).serialise())
    assert isinstance(remb, Remb)
    assert remb.ssrcs == (5, 6)
    assert remb.bitrate <= bitrate
    assert remb.bitrate >= bitrate * (1 - 2**-17)


def test_a_kind_that_is_not_known_is_kept_apart() -> None:
    data = Unknown(207, 3, b"12345678").serialise() + PictureLoss(1, 2).serialise()
    assert parse_compound(data) == [Unknown(207, 3, b"12345678"), PictureLoss(1, 2)]
    (layers,) = parse_compound(Unknown(206, 15, b"\0" * 8 + b"ABCD").serialise())
    assert isinstance(layers, Unknown)


def test_items_other_than_the_name_are_read_over() -> None:
    tool_and_name = b"\x06\x02ab" + b"\x01\x03cam" + b"\0" * 3
    data = Unknown(202, 1, b"\0\0\0\x07" + tool_and_name).serialise()
    assert parse_compound(data) == [SourceDescription(((7, "cam"),))]


def test_padding_of_the_last_packet_is_taken_off() -> None:
    data = bytearray(Bye((9,)).serialise() + b"\0\0\0\4")
    data[0] |= 0x20
    data[3] += 1
    assert parse_compound(bytes(data)) == [Bye((9,))]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x80\xc8", id="short header"),
        pytest.param(b"\x40\xc9\x00\x01\0\0\0\1", id="version"),
        pytest.param(b"\x80\xc9\x00\x02\0\0\0\1", id="length past the end"),
        pytest.param(b"\x80\xc9\xff\xff\0\0\0\1", id="largest length"),
        pytest.param(b"\x80\xc9\x00\x01\0\0\0\1\x80", id="bytes left over"),
        pytest.param(b"\x80\xc8\x00\x01\0\0\0\1", id="short sender report"),
        pytest.param(b"\x80\xc9\x00\x00", id="empty receiver report"),
        pytest.param(b"\x9f\xc9\x00\x01\0\0\0\1", id="blocks that are not there"),
        pytest.param(b"\x9f\xcb\x00\x01\0\0\0\1", id="sources that are not there"),
        pytest.param(b"\x81\xca\x00\x01", id="cut off"),
        pytest.param(b"\x81\xca\x00\x00", id="chunk that is not there"),
        pytest.param(b"\x81\xca\x00\x02\0\0\0\1\x01\xffab", id="item longer than the packet"),
        pytest.param(b"\x81\xcd\x00\x01\0\0\0\1", id="short nack"),
        pytest.param(b"\x81\xce\x00\x01\0\0\0\1", id="short picture loss"),
        pytest.param(b"\x8f\xce\x00\x03\0\0\0\1\0\0\0\0REMB", id="short bandwidth estimate"),
        pytest.param(
            b"\x8f\xce\x00\x04\0\0\0\1\0\0\0\0REMB\xff\0\0\0", id="bandwidth of 255 sources"
        ),
        pytest.param(b"\xa0\xc9\x00\x01\0\0\0\x09", id="padding too long"),
        pytest.param(b"\xa0\xc9\x00\x00", id="padding of nothing"),
    ],
)
def test_refuses_what_breaks_its_format(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_compound(data)


def test_refuses_a_nack_for_more_than_anybody_keeps() -> None:
    (most,) = parse_compound(Nack(1, 2, tuple(range(1000))).serialise())
    assert isinstance(most, Nack)
    assert len(most.sequences) == 1000
    huge = Unknown(205, 1, bytes(8) + b"\x00\x01\xff\xff" * 61)
    with pytest.raises(ParseError):
        parse_compound(huge.serialise())


def test_refuses_a_compound_of_more_packets_than_anybody_sends() -> None:
    assert len(parse_compound(PictureLoss(1, 2).serialise() * 32)) == 32
    with pytest.raises(ParseError):
        parse_compound(PictureLoss(1, 2).serialise() * 33)


@given(st.lists(PACKETS, min_size=1, max_size=4))
def test_a_compound_comes_back_as_it_was(packets: list[Rtcp]) -> None:
    assert parse_compound(compound(packets)) == packets


@given(st.lists(st.integers(0, 0xFFFF), max_size=200, unique=True))
def test_a_nack_asks_for_exactly_what_is_missing(sequences: list[int]) -> None:
    (nack,) = parse_compound(Nack(1, 2, tuple(sorted(sequences))).serialise())
    assert isinstance(nack, Nack)
    assert sorted(nack.sequences) == sorted(sequences)


@given(st.binary(max_size=200))
def test_bytes_from_strangers_are_read_or_refused(data: bytes) -> None:
    try:
        parse_compound(data)
    except ParseError:
        return


@given(st.integers(200, 207), st.integers(0, 31), st.binary(max_size=80))
def test_any_body_of_a_known_kind_is_read_or_refused(kind: int, count: int, body: bytes) -> None:
    data = Unknown(kind, count, body + bytes(-len(body) % 4)).serialise()
    try:
        parse_compound(data)
    except ParseError:
        return
