"""Transport streams that are broken, cut, doubled, or made by strangers."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.media.h264 import join_annexb, split_annexb
from relay.media.mpegts import Demuxer, Muxer
from relay.media.pes import BODY, PACKET
from relay.media.psi import PAT_PID, VIDEO_PID
from relay.media.unit import AccessUnit
from tests.media.samples import nal, picture, sound
from tests.media.transport import (
    EXACT,
    clean,
    fed,
    key,
    muxed,
    packets,
    pes,
    section,
    table_packet,
    untold,
)

pytestmark = pytest.mark.usefixtures("backend")


def damaged(drop: int, *, audio: bool = False) -> tuple[Demuxer, list[AccessUnit]]:
    """Three pictures of four packets; packet ``drop`` of all is lost."""
    muxer = Muxer(audio=audio)
    cut = packets(b"".join(muxer.write(picture(n * 3000, size=600)) for n in range(3)))
    assert len(cut) == 12
    return fed(muxer.tables() + b"".join(cut[:drop] + cut[drop + 1 :]))


@pytest.mark.parametrize(("drop", "left"), [(4, [0, 2]), (5, [0, 2]), (6, [0, 2]), (7, [0, 2])])
def test_a_lost_packet_costs_one_picture(drop: int, left: list[int]) -> None:
    demuxer, units = damaged(drop)
    assert [u.pts // 3000 for u in units] == left
    assert demuxer.discontinuities == 1
    assert demuxer.dropped_units + demuxer.dropped_packets >= 1


def test_packets_sent_twice_count_once() -> None:
    muxer = Muxer(audio=True)
    tables = muxer.tables()
    units = [picture(0, key=True, size=10), picture(3000, size=600), picture(6000, size=601)]
    doubled = b"".join(p * 2 for u in units for p in packets(muxer.write(u)))
    demuxer, found = fed(tables + doubled)
    assert [key(u) for u in found] == [key(u) for u in units]
    assert clean(demuxer)


def test_another_start_with_the_same_counter_is_no_copy() -> None:
    data = pes(VIDEO_PID, untold(EXACT)) + pes(
        VIDEO_PID, untold(EXACT, 3000), counter=1, tables=False
    )
    demuxer, units = fed(data)
    units += demuxer.flush(1.0)
    assert [u.pts for u in units] == [0, 3000]
    assert demuxer.discontinuities == 1


def test_an_announced_discontinuity_is_none() -> None:
    muxer = Muxer(audio=False)
    data = muxer.tables() + muxer.write(picture(0))
    later = bytearray(muxer.write(picture(9000)))
    later[3] = 0x30 | 9
    assert later[5] == 0x10
    for flag, count in ((0x90, 0), (0x10, 1)):
        later[5] = flag
        demuxer, units = fed(data + bytes(later))
        assert len(units) == 2
        assert demuxer.discontinuities == count


@pytest.mark.parametrize(
    ("at", "value", "dropped"), [(1, 0xC1, 1), (3, 0xB0, 1), (3, 0x20, 0), (4, 200, 1)]
)
def test_packets_that_cannot_be_used(at: int, value: int, dropped: int) -> None:
    muxer = Muxer(audio=False)
    tables, packet = muxer.tables(), bytearray(muxer.write(picture(0, size=10)))
    packet[at] = value
    demuxer, units = fed(tables + bytes(packet))
    assert units == []
    assert demuxer.dropped_packets == dropped


def test_a_table_that_cannot_be_used() -> None:
    broken = bytearray(Muxer(audio=True).tables())
    broken[1] |= 0x80
    demuxer, _ = fed(bytes(broken))
    assert demuxer.has_video is None


def test_a_malformed_start_drops_up_to_the_next() -> None:
    data = pes(VIDEO_PID, b"\0\0\2" + b"x" * 400)
    good = pes(VIDEO_PID, untold(EXACT, 3000), counter=3, tables=False)
    demuxer, units = fed(data + good)
    units += demuxer.flush(1.0)
    assert [u.pts for u in units] == [3000]
    assert demuxer.dropped_packets == 3


def test_a_unit_cut_short_is_dropped() -> None:
    demuxer, units = fed(muxed(picture(0, size=900))[:-PACKET])
    assert units == demuxer.flush(1.0) == []
    assert demuxer.dropped_units == 1
    muxer = Muxer(audio=True)
    short = muxer.tables() + muxer.write(picture(0, size=900))[:-PACKET]
    demuxer, units = fed(short + muxer.write(picture(3000)))
    assert [u.pts for u in units] == [3000]
    assert demuxer.dropped_units == 1


def test_a_pes_without_end_is_bounded() -> None:
    head = untold(join_annexb([nal(1, 100)]))[:BODY].ljust(BODY, b"\xab")
    muxer = Muxer(audio=True)
    counters = (bytes((0x47, 1, 0, 0x10 | n & 15)) for n in range(1, 200))
    data = b"".join(c + b"\xab" * BODY for c in counters)
    first = b"\x47\x41\0\x10" + head
    demuxer = Demuxer(max_pes=20 * BODY)
    assert demuxer.feed(muxer.tables() + first + data, 1.0) == []
    assert demuxer.dropped_units == 1
    assert demuxer.dropped_packets == 200 - 21
    assert demuxer.flush(1.0) == []


def test_a_packet_cut_short_by_the_end_of_a_segment() -> None:
    muxer = Muxer(audio=True)
    demuxer = Demuxer()
    units = demuxer.feed(muxer.tables() + muxer.write(picture(0, size=900))[:-60], 1.0)
    units += demuxer.flush(1.0)
    units += demuxer.feed(muxer.tables() + muxer.write(picture(3000)), 1.0)
    assert [u.pts for u in units] == [3000]
    assert demuxer.dropped_packets == 1
    assert demuxer.resyncs == 0


def test_the_grid_is_found_again_behind_garbage() -> None:
    muxer = Muxer(audio=True)
    head = muxer.tables() + muxer.write(picture(0))
    tail = b"".join(muxer.write(picture(n * 3000)) for n in range(1, 4))
    for garbage in (b"\x00" * 77, b"\x47" * 5, b"G\0" * 100, b"", b"\x47" + b"\0" * 186):
        for size in (1, 50, 188, 5000):
            demuxer, units = fed(head + garbage + tail, size)
            assert [u.pts for u in units][-2:] == [6000, 9000]
            assert len(units) >= 3
            assert demuxer.resyncs <= 2


def test_garbage_without_a_sync_byte_is_not_kept() -> None:
    demuxer = Demuxer()
    for _ in range(50):
        demuxer.feed(b"\x00" * 10_000, 0.0)
    assert demuxer.resyncs == 1
    assert len(demuxer._rest) == 0
    assert [u.pts for u in demuxer.feed(muxed(picture(3000)), 0.0)] == [3000]


def held(demuxer: Demuxer) -> int:
    """Bytes that a demuxer keeps."""
    streams = demuxer._streams.values()
    tables = len(demuxer._pat._buffer) + len(demuxer._pmt._buffer)
    return len(demuxer._rest) + tables + sum(s.size + len(s.first) for s in streams)


@given(st.binary(max_size=3000), st.integers(1, 700))
@example(b"\x47" * 3000, 100)
@settings(deadline=None)
def test_bytes_of_strangers_never_raise(data: bytes, size: int) -> None:
    demuxer, _ = fed(data, size)
    demuxer.feed(muxed(picture(0)), 1.0)
    demuxer.flush(1.0)
    assert held(demuxer) <= 4000


@given(st.randoms(use_true_random=False), st.integers(1, 60), st.integers(1, 4000))
@settings(deadline=None)
def test_mutated_streams_never_raise(rng: random.Random, mutations: int, size: int) -> None:
    data = bytearray(
        muxed(picture(0, key=True, size=900), sound(0, size=300), picture(3000), sound(1800))
        + pes(VIDEO_PID, untold(EXACT, 6000), counter=9, tables=False)
    )
    for _ in range(mutations):
        at = rng.randrange(len(data))
        action = rng.randrange(4)
        if action == 0:
            data[at] = rng.randrange(256)
        elif action == 1:
            del data[at : at + rng.randrange(400)]
        elif action == 2:
            data[at:at] = data[rng.randrange(len(data) + 1) :][: rng.randrange(600)]
        else:
            # where the headers are
            data[min(at // PACKET * PACKET + rng.randrange(30), at)] = rng.randrange(256)
        if not data:
            break
    demuxer, units = fed(bytes(data), size)
    units += demuxer.flush(1.0)
    assert held(demuxer) < 8000 + len(data)
    for unit in units:
        assert unit.payload
        assert not unit.is_video or split_annexb(unit.payload)


@given(st.integers(0, 5000), st.integers(1, 500))
@settings(deadline=None)
def test_a_truncated_stream_gives_whole_units_only(length: int, size: int) -> None:
    units = [picture(0, key=True, size=900), sound(0, size=300), picture(3000, size=800)]
    demuxer, found = fed(muxed(*units)[:length], size)
    found += demuxer.flush(1.0)
    assert [key(u) for u in found] == [key(u) for u in units[: len(found)]]


def test_a_program_whose_table_is_said_to_be_on_pid_0() -> None:
    pat = table_packet(PAT_PID, section(0, struct.pack(">HH", 1, 0xE000)))
    demuxer, units = fed((pat + muxed(picture(0))[PACKET:]) * 3)
    assert units == []
    assert demuxer.has_video is None
