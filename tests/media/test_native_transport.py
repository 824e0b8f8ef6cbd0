"""The native part of MPEG-TS against Python's own: the same bytes, the same units."""

from __future__ import annotations

import logging
import random
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.media import native_transport
from relay.media.h264 import MAX_NALS
from relay.media.mpegts import Demuxer, Muxer
from relay.media.pes import PACKET, pes_header
from relay.media.psi import VIDEO_PID
from relay.media.unit import AccessUnit, Codec
from tests.media.samples import nal, picture, sound
from tests.media.transport import Key, key, pes


def without_native(make: type[Muxer] | type[Demuxer], **given: bool) -> Muxer | Demuxer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_transport, "_library", lambda: None)
        return make(**given)


def both_muxers() -> tuple[Muxer, Muxer]:
    native, python = Muxer(audio=True), without_native(Muxer, audio=True)
    assert isinstance(python, Muxer)
    assert native.write_picture is not None
    assert python.write_picture is None
    return native, python


# Around one packet, and around the longest PES that says its length.
SIZES = [*range(1, 420), *range(65_300, 65_900, 7), *range(65_500, 65_560), 200_000]


def test_pictures_of_any_size_are_written_alike() -> None:
    native, python = both_muxers()
    for number, size in enumerate(SIZES):
        payload = b"\0\0\0\1" + bytes((0x41,)) + bytes(max(0, size - 5))
        unit = AccessUnit(Codec.H264, payload[:size], number * 3000, 0.0, number % 7 == 0)
        assert native.write(unit) == python.write(unit), size


@given(st.lists(st.integers(-(1 << 34), 1 << 34), min_size=1, max_size=12))
def test_times_are_written_alike(times: list[int]) -> None:
    native, python = both_muxers()
    for pts in times:
        unit = picture(pts, size=100)
        assert native.write(unit, b"head") == python.write(unit, b"head")


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
    assert native._pictures is not None
    found = told(native, pieces)
    assert found == told(python, pieces)
    return found[0]


def stream(dice: random.Random) -> bytes:
    muxer = Muxer(audio=True)
    data = muxer.tables()
    for number in range(dice.randint(1, 8)):
        if dice.random() < 0.3:
            data += muxer.write(sound(number * 3000))
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
        match dice.randrange(4):
            case 0:  # in its headers, mostly
                place = dice.choice([0, 1, 2, 3, 4, 5, 8, 12, 16, 18, 20])
                data[packet + place] = dice.randrange(256)
            case 1:
                data[packet + dice.randrange(PACKET)] = dice.choice([0, 0, 1, 0x47, 255])
            case 2:
                del data[packet : packet + PACKET]
            case 3:
                data[packet:packet] = data[packet : packet + PACKET]
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


def test_pictures_are_read_natively() -> None:
    demuxer, muxer = Demuxer(), Muxer(audio=False)
    demuxer.feed(muxer.tables(), 1.0)
    packed = [muxer.write(picture(number * 3000, size=4000)) for number in range(3)]
    demuxer._packet = None  # type: ignore[assignment, method-assign]
    assert len(demuxer.feed(b"".join(packed), 1.0)) == 3


def test_without_the_native_part_python_does_it_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native_transport, "HERE", tmp_path)
    native_transport._library.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                assert native_transport.PictureReader.where_built() is None
                assert native_transport.PictureWriter.of(256) is None
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
