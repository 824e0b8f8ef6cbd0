"""Transport streams, in and out, on our own terms; FFmpeg's are in test_mpegts_ffmpeg."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.media.h264 import join_annexb
from relay.media.mpegts import Demuxer, Muxer
from relay.media.opus_packets import MAX_OPUS_PACKETS
from relay.media.pes import BODY, PACKET, pes_header
from relay.media.psi import AUDIO_PID, PAT_PID, PMT_PID, VIDEO_PID
from relay.media.unit import AccessUnit, Codec
from tests.media.samples import capture, nal, picture, pictures, sound, sounds
from tests.media.transport import (
    EXACT,
    clean,
    fed,
    key,
    muxed,
    packets,
    pes,
    pid_of,
    pmt,
    section,
    table_packet,
    untold,
)

pytestmark = pytest.mark.usefixtures("backend")

# --- writing


def test_tables_are_two_packets_whose_counters_run_on() -> None:
    muxer = Muxer(audio=True)
    for n in range(18):
        pat, pmt = packets(muxer.tables())
        assert (pid_of(pat), pid_of(pmt)) == (PAT_PID, PMT_PID)
        assert pat[1] & pmt[1] & 0x40
        assert pat[3] == pmt[3] == 0x10 | n & 15


def test_counters_run_on_over_units_and_tables() -> None:
    muxer = Muxer(audio=True)
    data = b""
    for n in range(40):
        data += muxer.tables() if n % 10 == 0 else b""
        data += muxer.write(picture(n * 3000, key=n % 10 == 0, size=37 * n))
        data += muxer.write(sound(n * 3000, size=29 * n))
    for pid in (VIDEO_PID, AUDIO_PID):
        counters = [p[3] & 15 for p in packets(data, pid)]
        assert counters == [n & 15 for n in range(len(counters))]


def pcr_of(packet: bytes) -> int | None:
    if packet[3] & 0x20 and packet[4] and packet[5] & 0x10:
        return int.from_bytes(packet[6:12], "big") >> 15
    return None


def test_video_carries_the_clock_and_marks_key_frames() -> None:
    muxer = Muxer(audio=True)
    first = packets(muxer.write(picture(0, key=True)))[0]
    assert first[5] == 0x50
    assert pcr_of(first) == (1 << 33) - 9000
    second = packets(muxer.write(picture(90000)))[0]
    assert second[5] == 0x10
    assert pcr_of(second) == 81000
    assert all(pcr_of(p) is None for p in packets(muxer.write(sound(90000))))


def test_audio_alone_carries_the_clock() -> None:
    muxer = Muxer(video=False, audio=True)
    data = muxer.tables() + muxer.write(sound(180000))
    assert pcr_of(packets(data, AUDIO_PID)[0]) == 171000
    demuxer, units = fed(data)
    assert [u.pts for u in units] == [180000]
    assert (demuxer.has_video, demuxer.has_audio) == (False, True)


def test_the_clock_does_not_go_back_for_reordered_pictures() -> None:
    muxer = Muxer(audio=False)
    stamps = [90000, 99000, 93000, 96000, 108000, 1000]
    clocks = [pcr_of(packets(muxer.write(picture(pts)))[0]) for pts in stamps]
    assert clocks == [81000, 90000, 90000, 90000, 99000, (1 << 33) - 8000]


@pytest.mark.parametrize("audio", [True, False])
def test_every_size_fills_whole_packets(audio: bool) -> None:
    for size in range(420):
        unit = sound(0, size=size) if audio else picture(0, size=size)
        data = muxed(unit)
        demuxer, units = fed(data)
        assert [key(u) for u in units] == [key(unit)]
        assert clean(demuxer)
        assert len(data) // PACKET <= 3 + (size + 60) // BODY + 1


def test_a_picture_over_the_length_field_still_leaves_at_once() -> None:
    for size in range(65_400, 65_400 + BODY + 190):
        unit = picture(0, size=size)
        demuxer, units = fed(muxed(unit))
        assert [u.payload for u in units] == [unit.payload], size
        assert clean(demuxer)


def test_a_pes_length_is_written_when_it_fits() -> None:
    for size, written in ((60_000, True), (70_000, False)):
        head = packets(muxed(picture(0, size=size)), VIDEO_PID)[0]
        at = 5 + head[4]
        assert (head[at + 4 : at + 6] != b"\0\0") is written


# --- there and back


@given(st.lists(pictures() | sounds(), max_size=12), st.integers(1, 1000))
@settings(deadline=None)
def test_units_come_back_whatever_the_chunks(units: list[AccessUnit], size: int) -> None:
    # One 33-bit clock is unwrapped, so that steps stay under half of its range.
    demuxer, found = fed(muxed(*units), size)
    assert [key(u) for u in found] == [key(u) for u in units]
    assert clean(demuxer)


@given(st.lists(st.binary(max_size=700), max_size=8))
@settings(deadline=None)
def test_chunk_borders_do_not_matter(lengths: list[bytes]) -> None:
    data = muxed(picture(0, key=True, size=900), sound(0), picture(3000, size=300), sound(1800))
    demuxer, at, units = Demuxer(), 0, []
    for chunk in lengths:
        units += demuxer.feed(data[at : at + len(chunk)], 1.0)
        at += len(chunk)
    units += demuxer.feed(data[at:], 1.0)
    assert [u.pts for u in units] == [0, 0, 3000, 1800]


def test_a_unit_leaves_with_its_last_byte() -> None:
    unit = picture(0, key=True, size=500)
    data = muxed(unit)
    demuxer = Demuxer()
    assert demuxer.feed(data[:-1], 1.0) == []
    (found,) = demuxer.feed(data[-1:], 2.0)
    assert found.arrival == 2.0
    assert found.keyframe
    assert demuxer.flush(3.0) == []


def test_time_goes_on_over_the_wrap_of_33_bits() -> None:
    start = (1 << 33) - 4000
    units = [sound(start + n * 1800, size=10) for n in range(5)]
    units += [picture(start + n * 3000) for n in range(5)]
    _, found = fed(muxed(*units))
    assert [u.pts for u in found] == [u.pts for u in units]


def test_programs_are_told_by_their_table() -> None:
    demuxer = Demuxer()
    assert (demuxer.has_video, demuxer.has_audio) == (None, None)
    demuxer.feed(Muxer(audio=False).tables(), 0.0)
    assert (demuxer.has_video, demuxer.has_audio) == (True, False)
    demuxer.feed(Muxer(video=False, audio=True).tables(), 0.0)
    assert (demuxer.has_video, demuxer.has_audio) == (False, True)


def test_nothing_is_read_before_the_table() -> None:
    muxer = Muxer(audio=True)
    data = muxer.write(picture(0, key=True)) + muxer.tables() + muxer.write(picture(3000))
    _, units = fed(data)
    assert [u.pts for u in units] == [3000]


def test_a_repeated_table_keeps_the_unit_in_progress() -> None:
    muxer = Muxer(audio=True)
    tables = muxer.tables()
    unit = packets(muxer.write(picture(0, size=800)))
    again = muxer.tables()
    demuxer, units = fed(tables + b"".join(unit[:3]) + again + b"".join(unit[3:]))
    assert len(units) == 1
    assert clean(demuxer)


def test_a_pid_that_changes_its_kind_starts_anew() -> None:
    demuxer = Demuxer()
    demuxer.feed(muxed(picture(0, size=900))[:-PACKET], 0.0)
    other = table_packet(PMT_PID, pmt((0x06, VIDEO_PID, b"\x05\x04Opus")))
    assert demuxer.feed(other, 0.0) == demuxer.flush(0.0) == []
    assert (demuxer.has_video, demuxer.has_audio) == (False, True)


def test_a_program_that_moves_to_another_pid() -> None:
    moved = table_packet(PAT_PID, section(0, struct.pack(">HH", 7, 0xE123)))
    moved += table_packet(0x123, pmt((0x1B, AUDIO_PID, b"")))
    payload = join_annexb([nal(1)])
    unit = pes(AUDIO_PID, pes_header(0xE0, 0, len(payload), BODY) + payload, tables=False)
    _, units = fed(muxed(sound(0)) + moved + unit)
    assert [u.codec for u in units] == [Codec.OPUS, Codec.H264]


# --- stock segments


def test_stock_segments_whole_with_counters_that_restart() -> None:
    demuxer = Demuxer()
    stamps: list[int] = []
    for name in ("input-0", "input-1"):
        data = capture(name)
        units = [
            u for at in range(0, len(data), 1000) for u in demuxer.feed(data[at : at + 1000], 1)
        ]
        units += demuxer.flush(1.0)
        assert len(units) == 60
        assert [u.keyframe for u in units] == [True] + [False] * 59
        stamps += [u.pts for u in units]
    assert stamps == list(range(0, 120 * 3000, 3000))
    assert demuxer.dropped_units == demuxer.dropped_packets == demuxer.resyncs == 0


def test_stock_segments_lose_nothing_without_a_flush_between() -> None:
    _, units = fed(capture("input-0") + capture("input-1"))
    assert [u.pts for u in units] == list(range(0, 120 * 3000, 3000))


def test_stock_units_wait_for_nothing_when_their_last_packet_is_stuffed() -> None:
    """PES length 0 is no reason to hold a picture back for a frame."""
    data = capture("input-0")
    demuxer = Demuxer()
    prompt = 0
    for packet in packets(data):
        begins = pid_of(packet) == VIDEO_PID and packet[1] & 0x40
        prompt += bool(demuxer.feed(packet, 0.0)) and not begins
    assert prompt >= 59


def test_a_stock_segment_with_audio() -> None:
    demuxer, units = fed(capture("input-av-0"))
    audio = [u for u in units if u.codec is Codec.OPUS]
    assert [u.pts for u in audio[:4]] == [1181, 2981, 4781, 6581]
    assert all(u.payload[0] >> 3 == audio[0].payload[0] >> 3 for u in audio)
    video = [u for u in units if u.is_video]
    assert [u.pts for u in video[:3]] == [0, 2970, 6030]
    assert demuxer.has_audio
    assert clean(demuxer)


def test_delimiters_are_taken_out_and_start_codes_made_long() -> None:
    payload = b"\0\0\0\1\x09\xf0\0\0\1" + nal(6) + b"\0\0\1\x09\x10\0\0\1" + nal(1)
    _, (unit,) = fed(pes(VIDEO_PID, pes_header(0xE0, 0, len(payload), BODY) + payload))
    assert unit.payload == join_annexb([nal(6), nal(1)])


# --- other muxers


def test_without_length_and_stuffing_a_unit_waits_for_the_next_or_the_flush() -> None:
    demuxer = Demuxer()
    assert demuxer.feed(pes(VIDEO_PID, untold(EXACT)), 1.0) == []
    second = pes(VIDEO_PID, untold(EXACT, 3000), counter=2, tables=False)
    assert [u.pts for u in demuxer.feed(second[:PACKET], 2.0)] == [0]
    assert demuxer.feed(second[PACKET:], 3.0) == []
    (unit,) = demuxer.flush(4.0)
    assert (unit.pts, unit.arrival, unit.payload) == (3000, 4.0, EXACT)
    assert clean(demuxer)


def test_stuffing_in_the_middle_is_found_out() -> None:
    """The first picture is lost by it, and from then on stuffing marks no end."""
    payload = join_annexb([nal(1, 500)])

    def odd(pts: int, counter: int) -> bytes:
        whole = untold(payload, pts)
        return pes(VIDEO_PID, whole[:100], counter=counter, tables=pts == 0) + pes(
            VIDEO_PID, whole[100:], counter=counter + 1, tables=False
        ).replace(b"\x47\x41", b"\x47\x01")

    demuxer, units = fed(odd(0, 0) + odd(3000, 4) + odd(6000, 8))
    units += demuxer.flush(1.0)
    assert [len(u.payload) for u in units] == [100 - 14, len(payload), len(payload)]
    assert demuxer.discontinuities == 0


def opus_header(packet: bytes, extra: int = 0, fields: bytes = b"") -> bytes:
    full, rest = divmod(len(packet), 255)
    return bytes((0x7F, 0xE0 | extra)) + b"\xff" * full + bytes((rest,)) + fields + packet


def opus_pes(data: bytes, pts: int = 0) -> bytes:
    return pes(AUDIO_PID, pes_header(0xBD, pts, len(data), BODY) + data)


def test_opus_packets_of_one_pes_are_parted_in_time() -> None:
    twenty, sixty, short = b"\x78" + b"a" * 300, b"\x18" + b"b" * 255, b"\x80c"
    trimmed = opus_header(sixty, 0x18, b"\0\x40\0\x40")
    extended = opus_header(short, 0x04, b"\x02xy")
    data = opus_header(twenty) + trimmed + extended + opus_header(twenty)
    demuxer, units = fed(opus_pes(data, 9000))
    assert [(u.payload, u.pts) for u in units] == [
        (twenty, 9000),
        (sixty, 9000 + 1800),
        (short, 9000 + 1800 + 5400),
        (twenty, 9000 + 1800 + 5400 + 225),
    ]
    assert clean(demuxer)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7f",
        b"\x7f\xe0",
        b"\x7e\xe0\x01\x78",
        b"\x7f\xc0\x01\x78",
        b"\x7f\xe0\x00",  # an empty packet
        b"\x7f\xe0\x05\x78abc",
        b"\x7f\xe0\xff\xff",
        b"\x7f\xe4\x01",
        b"\x7f\xe4\x01\xff\x78",
        opus_header(b"\xfb\x00"),
        opus_header(b"\x78") * (MAX_OPUS_PACKETS + 1),
    ],
)
def test_malformed_opus_is_dropped(data: bytes) -> None:
    demuxer, units = fed(opus_pes(data))
    assert len(units) in (0, MAX_OPUS_PACKETS)
    assert demuxer.dropped_units == (1 if data else 0)


def test_pictures_that_cannot_be_read_are_dropped() -> None:
    for payload in (b"no start code", b"\0\0\0\1\x09\xf0", b"\0\0\1\x61" * 9000):
        demuxer, units = fed(pes(VIDEO_PID, pes_header(0xE0, 0, len(payload), BODY) + payload))
        assert units == []
        assert demuxer.dropped_units == 1


def test_a_unit_without_a_time_is_dropped() -> None:
    payload = join_annexb([nal(1)])
    head = b"\0\0\1\xe0" + struct.pack(">H", len(payload) + 3) + b"\x80\0\0"
    demuxer, units = fed(pes(VIDEO_PID, head + payload))
    assert units == []
    assert demuxer.dropped_units == 1
