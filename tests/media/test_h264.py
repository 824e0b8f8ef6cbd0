"""Annex B, key frames and parameter sets."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.errors import ParseError
from relay.media import h264
from relay.media.h264 import (
    ParameterSets,
    Sps,
    is_keyframe,
    join_annexb,
    nal_type,
    parse_sps,
    split_annexb,
)
from tests.media.samples import PPS, SPS_180P, capture, exp_golomb, idr_slice, nal, nal_units


@given(st.lists(nal_units(), max_size=20))
def test_split_undoes_join(nals: list[bytes]) -> None:
    assert split_annexb(join_annexb(nals)) == nals


@given(st.lists(nal_units(), min_size=1), st.binary(max_size=6).map(lambda b: b"\xff" + b))
def test_start_codes_of_three_and_four_bytes_and_zeros_around_them(
    nals: list[bytes], before: bytes
) -> None:
    data = before.rstrip(b"\x00\x01") + b"\x00\x00\x01".join([b"", *nals]) + b"\x00\x00\x00"
    assert split_annexb(data) == nals
    assert split_annexb(b"\x00\x00\x00\x00\x01".join([b"", *nals])) == nals


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 9, b"\x67abc", b"\x00\x00\x01", b"\x00\x00\x01" * 5]
)
def test_nothing_between_start_codes_is_no_unit(data: bytes) -> None:
    assert split_annexb(data) == []
    assert join_annexb([]) == b""
    assert not is_keyframe(data)


def test_the_number_of_units_is_bounded() -> None:
    assert len(split_annexb(b"\x00\x00\x01\x61" * h264.MAX_NALS)) == h264.MAX_NALS
    with pytest.raises(ParseError):
        split_annexb(b"\x00\x00\x01\x61" * (h264.MAX_NALS + 1))


@given(st.binary(max_size=2000) | st.lists(st.sampled_from([0, 1, 3, 0x65, 0x67])).map(bytes))
@example(b"\x00\x00\x01")
@example(b"\x00\x00\x01\x00\x00\x01\x65")
def test_bytes_of_strangers_raise_nothing_but_parse_errors(data: bytes) -> None:
    is_keyframe(data)
    sets = ParameterSets()
    sets.apply(data)
    sets.apply(join_annexb([b"\x67" + data, b"\x68" + data, b"\x65" + data]))
    calls: list[Callable[[bytes], object]] = [split_annexb, nal_type, parse_sps]
    for call in calls:
        for argument in (data, b"\x67" + data):
            try:
                call(argument)
            except ParseError:
                continue


@given(st.binary(min_size=1, max_size=40), st.integers(0, len(SPS_180P) - 1))
def test_a_mutated_sps_is_read_or_refused(noise: bytes, at: int) -> None:
    try:
        sps = parse_sps((SPS_180P[:at] or b"\x67") + noise)
    except ParseError:
        return
    assert 0 < sps.width <= 16384
    assert 0 < sps.height <= 32768


def test_key_frames_are_told_by_their_first_slice() -> None:
    assert is_keyframe(join_annexb([SPS_180P, PPS, idr_slice()]))
    assert is_keyframe(b"\x00\x00\x01" + idr_slice())
    assert not is_keyframe(join_annexb([nal(6), nal(1), idr_slice()]))
    assert not is_keyframe(join_annexb([SPS_180P, PPS]))
    assert not is_keyframe(join_annexb([nal(2), idr_slice()]))


def test_the_type_of_a_unit() -> None:
    assert nal_type(SPS_180P) == h264.SPS
    assert nal_type(idr_slice()) == h264.IDR
    with pytest.raises(ParseError):
        nal_type(b"")


def test_the_sps_of_a_captured_stream() -> None:
    sps = parse_sps(SPS_180P)
    assert sps == Sps(66, 0xC0, 13, 320, 180, 0)
    assert SPS_180P in capture("input-0")


def _encoded(width: int, height: int, pixels: str, **options: str) -> bytes:
    """The first access unit of a real encoder."""
    context: Any = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = width, height, pixels
    context.time_base = Fraction(1, 30)
    context.options = {"tune": "zerolatency", **options}
    frame = av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24")
    packets = [*context.encode(frame.reformat(format=pixels)), *context.encode(None)]
    return b"".join(bytes(p) for p in packets)


@pytest.mark.parametrize(
    ("width", "height", "pixels", "options", "profile"),
    [
        (320, 180, "yuv420p", {"profile": "baseline"}, 66),
        (1280, 720, "yuv420p", {"profile": "main"}, 77),
        (1920, 1080, "yuv420p", {"profile": "high"}, 100),
        (322, 182, "yuv420p", {"profile": "high", "x264-params": "cqm=jvt"}, 100),
        (640, 480, "yuv420p", {"profile": "high", "x264-params": "interlaced=1"}, 100),
        (362, 202, "yuv422p", {"profile": "high422"}, 122),
        (321, 181, "yuv444p", {"profile": "high444"}, 244),
        (320, 240, "yuv420p10le", {"profile": "high10"}, 110),
    ],
)
def test_the_sps_of_a_real_encoder(
    width: int, height: int, pixels: str, options: dict[str, str], profile: int
) -> None:
    data = _encoded(width, height, pixels, **options)
    payload, sps = ParameterSets().apply(data)
    assert payload is data
    assert sps is not None
    assert (sps.width, sps.height, sps.profile_idc) == (width, height, profile)


def sps_bits(
    *,
    profile: int = 66,
    sps_id: int = 0,
    high: str = "",
    order: str = "011",
    size: str = exp_golomb(19) + exp_golomb(14),
    frames_only: str = "1",
    crop: str = "0",
) -> bytes:
    """An SPS written by the bit; 320x240 unless told otherwise."""
    bits = f"{profile:08b}{0:08b}{30:08b}" + exp_golomb(sps_id) + high + exp_golomb(0) + order
    bits += exp_golomb(1) + "0" + size + frames_only + "1" + crop + "01"
    bits += "0" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return b"\x67" + body.replace(b"\x00\x00", b"\x00\x00\x03")


HIGH = exp_golomb(0) * 2 + "0"
SCALED = exp_golomb(0) * 2 + "01"
ENDED_LIST = "1" + exp_golomb(16)  # se(-8): 8 becomes 0
FLAT_LIST_16 = "1" + "1" * 16
FLAT_LIST_64 = "1" + "1" * 64


def scaling(*lists: str, of: int) -> str:
    return "".join(lists) + "0" * (of - len(lists))


@pytest.mark.parametrize(
    ("nal_unit", "width", "height"),
    [
        (sps_bits(), 320, 240),
        (sps_bits(sps_id=31), 320, 240),
        (sps_bits(order="010" + "0" + "1" * 2 + exp_golomb(3) + "010" * 3), 320, 240),
        (sps_bits(order="1" + exp_golomb(2)), 320, 240),
        (sps_bits(frames_only="00"), 320, 480),
        (sps_bits(crop="1" + exp_golomb(1) * 4), 316, 236),
        (sps_bits(frames_only="00", crop="1" + "1" * 3 + exp_golomb(1)), 320, 476),
        (sps_bits(profile=100, high=exp_golomb(1) + HIGH + "0"), 320, 240),
        # monochrome, 4:2:2, 4:4:4 and 4:4:4 in separate planes have other crop units
        (sps_bits(profile=100, high="1" + HIGH + "0", crop="1" + exp_golomb(1) * 4), 318, 238),
        (
            sps_bits(profile=122, high=exp_golomb(2) + HIGH + "0", crop="1" + exp_golomb(1) * 4),
            316,
            238,
        ),
        (
            sps_bits(
                profile=244, high=exp_golomb(3) + "0" + HIGH + "0", crop="1" + exp_golomb(1) * 4
            ),
            318,
            238,
        ),
        (
            sps_bits(
                profile=244, high=exp_golomb(3) + "1" + HIGH + "0", crop="1" + exp_golomb(1) * 4
            ),
            318,
            238,
        ),
        (
            sps_bits(profile=100, high=exp_golomb(1) + SCALED + scaling(FLAT_LIST_16, of=8)),
            320,
            240,
        ),
        (
            sps_bits(
                profile=244,
                high=exp_golomb(3)
                + "0"
                + SCALED
                + scaling(*[FLAT_LIST_16] * 6, FLAT_LIST_64, ENDED_LIST, of=12),
            ),
            320,
            240,
        ),
        (sps_bits(profile=100, high=exp_golomb(1) + SCALED + scaling(ENDED_LIST, of=8)), 320, 240),
    ],
)
def test_every_branch_of_an_sps(nal_unit: bytes, width: int, height: int) -> None:
    sps = parse_sps(nal_unit)
    assert (sps.width, sps.height) == (width, height)


@pytest.mark.parametrize(
    "nal_unit",
    [
        b"",
        PPS,
        b"\x67",
        SPS_180P[:6],
        SPS_180P + b"\x01" * 1024,
        sps_bits(sps_id=32),
        sps_bits(size="0" * 32 + "1" * 40),
        sps_bits(size=exp_golomb(1024) + exp_golomb(1)),
        sps_bits(crop="1" + exp_golomb(80) * 2 + exp_golomb(0) * 2),
        sps_bits(crop="1" + exp_golomb(0) * 2 + exp_golomb(119) + exp_golomb(1)),
        sps_bits(profile=100, high=exp_golomb(4) + HIGH + "0"),
    ],
)
def test_a_broken_sps_is_refused(nal_unit: bytes) -> None:
    with pytest.raises(ParseError):
        parse_sps(nal_unit)


class TestParameterSets:
    KEY = join_annexb([SPS_180P, PPS, idr_slice()])
    BARE = join_annexb([idr_slice()])

    def sets(self) -> ParameterSets:
        sets = ParameterSets()
        sets.apply(self.KEY)
        return sets

    def test_a_whole_key_frame_is_left_alone(self) -> None:
        payload, sps = ParameterSets().apply(self.KEY)
        assert payload is self.KEY
        assert sps == parse_sps(SPS_180P)

    def test_a_bare_key_frame_gets_what_was_remembered(self) -> None:
        payload, sps = self.sets().apply(self.BARE)
        assert payload == self.KEY
        assert sps == parse_sps(SPS_180P)

    def test_sets_may_come_in_an_access_unit_of_their_own(self) -> None:
        sets = ParameterSets()
        alone = join_annexb([SPS_180P, PPS])
        assert sets.apply(alone) == (alone, None)
        assert sets.apply(self.BARE)[0] == self.KEY

    def test_only_the_missing_one_is_added(self) -> None:
        only_sps = join_annexb([SPS_180P, nal(6), idr_slice()])
        only_pps = join_annexb([PPS, nal(6), idr_slice()])
        assert self.sets().apply(only_sps)[0] == join_annexb([SPS_180P, PPS, nal(6), idr_slice()])
        assert self.sets().apply(only_pps)[0] == join_annexb([SPS_180P, PPS, nal(6), idr_slice()])

    def test_each_picture_gets_the_sets_that_it_refers_to(self) -> None:
        sets = self.sets()
        other_sps, other_pps = sps_bits(sps_id=1), b"\x68" + bytes((0b01001011, 0x80))
        sets.apply(join_annexb([other_sps, other_pps]))
        picture = join_annexb([idr_slice("010")])
        payload, sps = sets.apply(picture)
        assert payload == join_annexb([other_sps, other_pps, idr_slice("010")])
        assert sps is not None
        assert sps.width == 320
        assert sps.sps_id == 1

    def test_of_more_sets_than_anybody_writes_the_first_are_read(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[bytes] = []

        def reading(unit: bytes) -> h264.Sps:
            read.append(unit)
            return parse_sps(unit)

        monkeypatch.setattr(h264, "parse_sps", reading)
        many = join_annexb([SPS_180P, sps_bits()] * 250 + [PPS, idr_slice()])
        assert ParameterSets().apply(many)[0].endswith(many)
        assert len(read) == h264.MAX_SETS

    def test_a_new_size_replaces_the_old(self) -> None:
        sets = self.sets()
        new = sps_bits(size=exp_golomb(39) + exp_golomb(29))
        sets.apply(join_annexb([new, PPS, idr_slice()]))
        payload, sps = sets.apply(self.BARE)
        assert payload == join_annexb([new, PPS, idr_slice()])
        assert sps is not None
        assert (sps.width, sps.height) == (640, 480)

    @pytest.mark.parametrize(
        "payload",
        [
            join_annexb([nal(1)]),
            join_annexb([nal(6), nal(1), idr_slice()]),
            join_annexb([idr_slice("010")]),  # a PPS that never came
            join_annexb([b"\x65"]),
            join_annexb([b"\x67" + b"\xff" * 2000, PPS, idr_slice("010")]),
            b"\x00\x00\x01\x65" + b"\x00\x00\x01\x61" * h264.MAX_NALS,
            b"",
        ],
    )
    def test_what_cannot_be_completed_goes_on_as_it_is(self, payload: bytes) -> None:
        assert self.sets().apply(payload) == (payload, None)

    def test_a_pps_whose_sps_never_came(self) -> None:
        payload = join_annexb([PPS, idr_slice()])
        assert ParameterSets().apply(payload) == (payload, None)

    def test_an_oversized_or_cut_pps_is_not_remembered(self) -> None:
        for pps in (PPS + b"\xab" * 2000, b"\x68"):
            sets = ParameterSets()
            payload = join_annexb([SPS_180P, pps, idr_slice()])
            assert sets.apply(payload) == (payload, None)

    @given(
        st.lists(
            st.lists(
                st.sampled_from(
                    [
                        SPS_180P,
                        sps_bits(),
                        sps_bits(sps_id=1),
                        PPS,
                        b"\x68" + bytes((0b01001011, 0x80)),  # the PPS 1, of the SPS 1
                        nal(1),
                        nal(6),
                        idr_slice(),
                        idr_slice(size=3),
                        idr_slice("010"),
                        idr_slice("1" + "0" * 7),
                        idr_slice("1" + "0" * 6 + "1"),
                        idr_slice("011"),
                        b"\x65\x00\x00\x03\x01",
                    ]
                ),
                max_size=5,
            ),
            max_size=8,
        )
    )
    def test_what_came_before_changes_nothing_but_what_is_known(
        self, pictures: list[list[bytes]]
    ) -> None:
        sets, anew = ParameterSets(), ParameterSets()
        for nals in pictures:
            payload = join_annexb(nals)
            anew._head = None
            assert sets.apply(payload) == anew.apply(payload)
            assert (sets._sps, sets._pps) == (anew._sps, anew._pps)
