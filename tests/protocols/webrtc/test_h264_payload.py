"""H.264 payloads: cut into packets, put together again, and what cannot be put together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocols.webrtc import h264_payload
from relay.protocols.webrtc.h264_payload import MAX_UNITS, Assembled, Depacketizer, packetize

START = b"\0\0\0\1"
SPS = b"\x67\x42\xe0\x1f"
PPS = b"\x68\xce\x38\x80"
IDR = b"\x65\x88" + b"i" * 40
SLICE = b"\x41\x9a" + b"s" * 20


def unit(*nals: bytes) -> bytes:
    return b"".join(START + nal for nal in nals)


def assemble(payloads: list[bytes]) -> Assembled:
    depacketizer = Depacketizer()
    for payload in payloads:
        depacketizer.push(payload)
    return depacketizer.take()


def test_a_small_slice_is_its_own_payload() -> None:
    assert packetize(unit(SLICE)) == [SLICE]


def test_parameter_sets_share_a_payload_with_a_small_key_frame() -> None:
    (payload,) = packetize(unit(SPS, PPS, IDR))
    assert payload[0] == 0x78
    assert assemble([payload]) == Assembled(unit(SPS, PPS, IDR), True, True, True, True, True)


def test_a_large_slice_is_cut_into_equal_pieces() -> None:
    nal = b"\x65\x88" + bytes(range(1, 256)) * 20
    payloads = packetize(unit(SPS, PPS, nal), 1180)
    sizes = [len(payload) for payload in payloads[1:]]
    assert set(sizes[:-1]) == {1180}
    assert 2 < sizes[-1] <= 1180
    assert payloads[1][1] == 0x85
    assert {payload[1] for payload in payloads[2:-1]} == {0x05}
    assert payloads[-1][1] == 0x45
    assert assemble(payloads).annexb == unit(SPS, PPS, nal)


@pytest.mark.parametrize("size", range(95, 108))
def test_no_payload_is_longer_than_asked_around_the_edge(size: int) -> None:
    annexb = unit(b"\x06" + b"e" * 3, b"\x41" + b"\x9a" * size, b"\x06" + b"f" * 90)
    payloads = packetize(annexb, 100)
    assert max(len(payload) for payload in payloads) <= 100
    assert assemble(payloads).annexb == annexb


def test_delimiters_and_filler_are_left_out() -> None:
    assert assemble([b"\x09\xf0", b"\x0c\xff\xff", SLICE]).annexb == unit(SLICE)


def test_a_delimiter_inside_an_aggregate_is_left_out() -> None:
    (payload,) = packetize(unit(b"\x09\xf0", SPS, IDR))
    assert assemble([payload]).annexb == unit(SPS, IDR)


def test_parameter_sets_alone_are_no_picture() -> None:
    assert assemble([SPS, PPS]) == Assembled(unit(SPS, PPS), True, True, False, False, False)


def test_a_picture_that_is_joined_in_its_middle_does_not_start() -> None:
    second = b"\x65\x40" + b"i" * 10
    assert assemble([second]).starts is False
    assert assemble([IDR, second]).starts is True


@pytest.mark.parametrize(
    "payloads",
    [
        pytest.param([b"\x7c\x05ab"], id="a fragment without its start"),
        pytest.param([b"\x7c\x45ab"], id="an end without its start"),
        pytest.param([b"\x7c\x85ab"], id="never ended"),
        pytest.param([b"\x7c\x85ab", b"\x7c\x85ab", b"\x7c\x45c"], id="started twice"),
        pytest.param([b"\x7c\x85ab", SLICE], id="another unit before its end"),
        pytest.param([b"\x7c\x85ab", b"\x7c", b"\x7c\x45c"], id="a fragment of nothing"),
        pytest.param([b"\x78\x00"], id="an aggregate without a length"),
        pytest.param([b"\x78\x00\x05abcd"], id="an aggregate's length lies"),
        pytest.param([b"\x78\x00\x01a\xff"], id="bytes left in an aggregate"),
        pytest.param([b"\x79\x00\x01\x00\x01a"], id="STAP-B"),
        pytest.param([b"\x7a\x00\x01a"], id="MTAP16"),
        pytest.param([b"\x7b\x00\x01a"], id="MTAP24"),
        pytest.param([b"\x7d\x85\x00\x00a"], id="FU-B"),
    ],
)
def test_what_cannot_be_right_is_not_intact(payloads: list[bytes]) -> None:
    assert assemble(payloads).intact is False


def test_the_next_access_unit_begins_afresh_after_a_broken_one() -> None:
    depacketizer = Depacketizer()
    depacketizer.push(b"\x7c\x85ab")
    depacketizer.take()
    depacketizer.push(SLICE)
    assert depacketizer.take() == Assembled(unit(SLICE), True, False, True, False, True)


def test_units_of_zero_length_and_reserved_kinds_are_read_over() -> None:
    aggregate = b"\x78\x00\x00" + len(SLICE).to_bytes(2, "big") + SLICE
    assert assemble([b"", b"\x00", b"\x7e1", b"\x7f1", aggregate]).annexb == unit(SLICE)


def test_an_aggregate_of_more_units_than_anybody_sends_is_not_intact() -> None:
    reader = Depacketizer()
    for count, intact in ((MAX_UNITS, True), (MAX_UNITS + 1, False), (5000, False)):
        reader.push(b"\x78" + b"\x00\x01\x41" * count)
        assert reader.take().intact is intact


def test_a_slice_of_one_byte_is_read_over_for_its_position() -> None:
    assert assemble([b"\x41"]) == Assembled(unit(b"\x41"), True, False, True, False, False)


def test_a_megabyte_of_side_information_goes_through() -> None:
    annexb = unit(b"\x06" + b"e" * (1 << 20), IDR)
    result = assemble(packetize(annexb))
    assert (result.annexb, result.intact) == (annexb, True)


def test_an_access_unit_over_the_bound_is_dropped_whole() -> None:
    depacketizer = Depacketizer()
    depacketizer.push(b"\x7c\x85ab")
    for _ in range(h264_payload.MAX_ACCESS_UNIT // 60_000 + 1):
        depacketizer.push(b"\x7c\x05" + bytes(60_000))
    assert not depacketizer.empty
    assert depacketizer.take()._replace(annexb=b"") == Assembled(
        b"", False, False, True, True, False
    )


def test_spoiled_is_not_intact_whatever_follows() -> None:
    depacketizer = Depacketizer()
    depacketizer.push(IDR)
    depacketizer.spoil()
    depacketizer.push(SLICE)
    assert not depacketizer.whole
    assert depacketizer.take().intact is False
    assert depacketizer.empty


NALS = st.lists(
    st.tuples(
        st.sampled_from([1, 5, 6, 7, 8, 19]),
        st.sampled_from([0, 0x20, 0x60]),
        st.binary(min_size=1, max_size=400).map(lambda body: body.replace(b"\0", b"\1")),
    ).map(lambda parts: bytes([parts[0] | parts[1]]) + parts[2]),
    min_size=1,
    max_size=6,
)


@given(NALS, st.integers(50, 300))
def test_an_access_unit_comes_back_as_it_was(nals: list[bytes], mtu: int) -> None:
    payloads = packetize(unit(*nals), mtu)
    assert max(len(payload) for payload in payloads) <= mtu
    result = assemble(payloads)
    assert result.annexb == unit(*nals)
    assert result.intact


@given(st.lists(st.binary(max_size=30), max_size=12))
def test_bytes_from_strangers_make_something_or_nothing(payloads: list[bytes]) -> None:
    result = assemble(payloads)
    assert len(result.annexb) <= sum(len(payload) + 15 for payload in payloads) * 4


@given(st.lists(st.sampled_from([0x7C, 0x78, 0x41, 0x65, 0x85, 0x45, 0x05, 0, 1]), max_size=300))
def test_fragments_and_aggregates_at_random_never_raise(octets: list[int]) -> None:
    data = bytes(octets)
    assemble([data[at : at + 5] for at in range(0, len(data), 5)])
