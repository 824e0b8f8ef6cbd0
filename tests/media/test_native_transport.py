"""The native part of MPEG-TS against Python's own: the same bytes, the same units."""

from __future__ import annotations

import logging
import random
from contextlib import suppress
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import ParseError
from relay.media import native_transport
from relay.media.audio import opus_duration
from relay.media.h264 import MAX_NALS
from relay.media.mpegts import Demuxer, Muxer
from relay.media.pes import BODY, PACKET, pes_header
from relay.media.psi import AUDIO_PID, VIDEO_PID
from relay.media.unit import AccessUnit, Codec
from tests.media.samples import capture, nal, picture, sound
from tests.media.transport import Key, key, pes


def without_native(make: type[Muxer] | type[Demuxer], **given: bool) -> Muxer | Demuxer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_transport, "_library", lambda: None)
        return make(**given)


def both_muxers() -> tuple[Muxer, Muxer]:
    native, python = Muxer(audio=True), without_native(Muxer, audio=True)
    assert isinstance(python, Muxer)
    assert native.write_picture is not None
    assert native.write_sound is not None
    assert python.write_picture is None
    assert python.write_sound is None
    return native, python


# Around one packet, and around the longest PES that says its length.
SIZES = [*range(1, 420), *range(65_300, 65_900, 7), *range(65_500, 65_560), 200_000]


def test_pictures_of_any_size_are_written_alike() -> None:
    native, python = both_muxers()
    for number, size in enumerate(SIZES):
        payload = b"\0\0\0\1" + bytes((0x41,)) + bytes(max(0, size - 5))
        unit = AccessUnit(Codec.H264, payload[:size], number * 3000, 0.0, number % 7 == 0)
        assert native.write(unit) == python.write(unit), size


# Around one packet, around sizes in 255s, and around the longest PES that says its length.
SOUND_SIZES = [*range(1501), *range(43_300, 43_400), *range(65_200, 65_560), 200_000]


def test_sound_of_any_size_is_written_alike() -> None:
    native, python = both_muxers()
    for number, size in enumerate(SOUND_SIZES):
        payload = (bytes(range(256)) * (size // 256 + 1))[:size]
        unit = AccessUnit(Codec.OPUS, payload, number * 1800, 0.0)
        assert native.write(unit) == python.write(unit), size


def test_sound_alone_is_written_alike_with_its_clock() -> None:
    native, python = Muxer(video=False, audio=True), without_native(Muxer, video=False, audio=True)
    assert isinstance(python, Muxer)
    for number in range(3):
        assert native.write(sound(number * 1800)) == python.write(sound(number * 1800))


UNITS = st.tuples(
    st.booleans(), st.integers(-(1 << 34), 1 << 34), st.integers(0, 600), st.booleans()
)


@given(st.lists(UNITS, min_size=1, max_size=20))
def test_pictures_and_sound_of_any_time_are_written_alike(
    units: list[tuple[bool, int, int, bool]],
) -> None:
    native, python = both_muxers()
    for is_video, pts, size, tables in units:
        unit = picture(pts, size=size) if is_video else sound(pts, size=size)
        heads = [muxer.tables() if tables else b"" for muxer in (native, python)]
        assert native.write(unit, heads[0]) == python.write(unit, heads[1])


def told(demuxer: Demuxer, pieces: list[bytes]) -> tuple[list[Key], tuple[object, ...]]:
    units = [unit for piece in pieces for unit in demuxer.feed(piece, 1.0)]
    units += demuxer.flush(1.0)
    counts = (
        demuxer.dropped_packets,
        demuxer.dropped_units,
        demuxer.resyncs,
        demuxer.discontinuities,
        demuxer.has_video,
        demuxer.has_audio,
    )
    return [key(unit) for unit in units], counts


def read_alike(pieces: list[bytes]) -> list[Key]:
    native, python = Demuxer(), without_native(Demuxer)
    assert isinstance(python, Demuxer)
    assert native._native is not None
    found = told(native, pieces)
    assert found == told(python, pieces)
    return found[0]


def stream(dice: random.Random) -> bytes:
    muxer = Muxer(audio=True)
    data = muxer.tables()
    for number in range(dice.randint(1, 8)):
        if dice.random() < 0.1:
            muxer = Muxer(audio=True)  # its counters restart
            data += muxer.tables()
        for _ in range(dice.choice([0, 0, 1, 1, 3])):
            size = dice.choice([0, 1, 40, 165, 166, 167, 254, 255, 600])
            data += muxer.write(sound(number * 3000, size=size))
        size = dice.choice([1, 20, 150, 160, 600, 3000, 70_000])
        data += muxer.write(picture(number * 3000, key=dice.random() < 0.3, size=size))
    return data


@settings(max_examples=150)
@given(st.integers(0, 1 << 32))
def test_damaged_streams_are_read_alike(seed: int) -> None:
    dice = random.Random(seed)
    data = bytearray(stream(dice))
    for _ in range(dice.choice([0, 1, 3, 20])):
        packet = dice.randrange(len(data) // PACKET) * PACKET
        match dice.randrange(6):
            case 0:  # in its headers, mostly
                place = dice.choice([0, 1, 2, 3, 4, 5, 8, 12, 16, 18, 20])
                data[packet + place] = dice.randrange(256)
            case 1:
                data[packet + dice.randrange(PACKET)] = dice.choice([0, 0, 1, 0x47, 255])
            case 2:
                del data[packet : packet + PACKET]
            case 3:
                data[packet:packet] = data[packet : packet + PACKET]
            case 4:  # behind the one after it
                moved = data[packet : packet + PACKET]
                del data[packet : packet + PACKET]
                data[packet + PACKET : packet + PACKET] = moved
            case 5 if (header := data.find(b"\x7f\xe0", packet)) > 0:  # of sound
                place = min(header + dice.randrange(5), len(data) - 1)
                data[place] = dice.choice([0, 1, 3, 0xE8, 0xF0, 255])
        if len(data) < PACKET:
            break
    pieces, at = [], 0
    while at < len(data):
        size = dice.choice([1, 100, PACKET, 3 * PACKET, 5000, 1 << 20])
        pieces.append(bytes(data[at : at + size]))
        at += size
    read_alike(pieces)


ODD = [
    b"\0\0\1\x41abc",  # a start code of three bytes
    b"\0\0\0\0\0\1\x41abc\0\0\0",  # zeros before and behind
    b"before\0\0\1\x09\xf0\0\0\1\x65abc",
    b"\0\0\1\0\0\1\0\0\1\x41",  # empty units
    b"\0\0\1\0\0\1\0\0\1",
    b"\0\0\1\x09\xf0",  # nothing but a delimiter
    b"\0\0\1" + b"\x41\0\0\1" * 200 + b"\x65",
    b"\x41 without a start code",
    b"\1\0\0\1\1\0\1\0\0\1\x41\1\1\0\0\1",
    b"\0\0\1\x41" * (MAX_NALS - 1) + b"\0\0\1",
    b"\0\0\1\x41" * (MAX_NALS + 1),
    nal(1, 65_500),
]


@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
def test_odd_pictures_are_read_alike(body: bytes) -> None:
    data = pes(VIDEO_PID, pes_header(0xE0, 77, len(body), 100) + body)
    read_alike([data])


OPUS = b"\x78" + b"\xcd" * 20
ODD_SOUND = {
    "nothing": b"",
    "no header": OPUS,
    "half a header": b"\x7f\xe0",
    "an empty packet": b"\x7f\xe0\0",
    "two packets": (b"\x7f\xe0\x15" + OPUS) * 2,
    "a packet and a half": b"\x7f\xe0\x15" + OPUS + b"\x7f\xe0\x15" + OPUS[:9],
    "cut short": b"\x7f\xe0\x16" + OPUS,
    "one byte more": b"\x7f\xe0\x14" + OPUS,
    "a start trim": b"\x7f\xf0\x15\x01\x38" + OPUS,
    "an end trim": b"\x7f\xe8\x15\0\x10" + OPUS,
    "both trims": b"\x7f\xf8\x15\x01\x38\0\x10" + OPUS,
    "an extension": b"\x7f\xe4\x15\x02ab" + OPUS,
    "reserved bits": b"\x7f\xe3\x15" + OPUS,
    "another prefix": b"\x7f\xc0\x15" + OPUS,
    "a size that does not end": b"\x7f\xe0" + b"\xff" * 300,
    "a size in 255s": b"\x7f\xe0\xff\xff\0" + OPUS[:1] * 510,
    "a packet of 64 KB": b"\x7f\xe0" + b"\xff" * 254 + b"\x02" + OPUS[:1] * 64_772,
}


@pytest.mark.parametrize("body", ODD_SOUND.values(), ids=ODD_SOUND)
def test_odd_sound_is_read_alike(body: bytes) -> None:
    data = pes(AUDIO_PID, pes_header(0xBD, 77, len(body), BODY) + body)
    read_alike([data])


FRAMES = (*range(51), 63, 64, 65, 128, 255)
BEGINNINGS = [bytes((toc,)) for toc in range(256)]
BEGINNINGS += [bytes((toc, frames)) for toc in range(3, 256, 4) for frames in FRAMES]


def test_opus_of_any_length_in_time_is_read_alike() -> None:
    pieces = []
    for number, body in enumerate(BEGINNINGS):
        body = pes_header(0xBD, number, 3 + len(body), BODY) + b"\x7f\xe0%c" % len(body) + body
        pieces.append(pes(AUDIO_PID, body, counter=number & 15, tables=number == 0))
    assert 1000 < len(read_alike(pieces)) < len(pieces)


def natively(demuxer: Demuxer) -> Demuxer:
    """Fails where Python has anything to read but tables."""
    demuxer._packet = None  # type: ignore[assignment, method-assign]
    return demuxer


def test_pictures_are_read_natively() -> None:
    demuxer, muxer = Demuxer(), Muxer(audio=False)
    demuxer.feed(muxer.tables(), 1.0)
    packed = [muxer.write(picture(number * 3000, size=4000)) for number in range(3)]
    assert len(natively(demuxer).feed(b"".join(packed), 1.0)) == 3


def test_sound_of_any_size_is_read_natively() -> None:
    demuxer, muxer = natively(Demuxer()), Muxer(audio=True)
    demuxer.feed(muxer.tables(), 1.0)
    for size in (*range(1500), 60_000):
        unit = sound(size * 1800, size=size)
        assert list(map(key, demuxer.feed(muxer.write(unit), 1.0))) == [key(unit)]


def test_sound_of_any_length_in_time_is_read_natively() -> None:
    demuxer, muxer = natively(Demuxer()), Muxer(audio=True)
    demuxer.feed(muxer.tables(), 1.0)
    for payload in BEGINNINGS:
        with suppress(ParseError):
            opus_duration(payload)
            unit = AccessUnit(Codec.OPUS, payload, 1, 1.0)
            assert list(map(key, demuxer.feed(muxer.write(unit), 1.0))) == [key(unit)]


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=1, max_size=9))
def test_pictures_and_sound_behind_one_another_are_read_natively(groups: list[list[bool]]) -> None:
    demuxer, muxer = natively(Demuxer()), Muxer(audio=True)
    for number, group in enumerate(groups):
        units = [picture(number * 3000, size=900) if one else sound(number) for one in group]
        head = muxer.tables() if number % 3 == 0 else b""
        data = head + b"".join(muxer.write(unit) for unit in units)
        assert list(map(key, demuxer.feed(data, 1.0))) == list(map(key, units))


@pytest.mark.parametrize("name", ["input-0", "input-av-0", "input-av-0.last-40-packets"])
def test_what_was_captured_is_read_alike(name: str) -> None:
    data = capture(name)
    for size in (PACKET, 1000, len(data)):
        read_alike([data[at : at + size] for at in range(0, len(data), size)])


def test_without_the_native_part_python_does_it_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native_transport, "HERE", tmp_path)
    native_transport._library.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                assert native_transport.UnitReader.where_built() is None
                assert native_transport.UnitWriter.of(256) is None
        assert len(caplog.records) == 1
        assert "pure Python reads and writes segments" in caplog.text
    finally:
        native_transport._library.cache_clear()


def test_a_library_of_another_version_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = native_transport.HERE / f"_native{EXTENSION_SUFFIXES[0]}"
    header = (native_transport.HERE / "native" / "transport.h").read_text()
    (tmp_path / "native").mkdir()
    changed = header.replace("uint8_t keyframe;", "uint8_t keyframe; uint64_t more;")
    (tmp_path / "native" / "transport.h").write_text(changed)
    (tmp_path / real.name).symlink_to(real)
    monkeypatch.setattr(native_transport, "HERE", tmp_path)
    native_transport._library.cache_clear()
    try:
        assert native_transport._library() is None
    finally:
        native_transport._library.cache_clear()
