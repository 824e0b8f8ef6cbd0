from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from relay.cli import clip
from relay.errors import BadInput
from relay.media.unit import VIDEO_CLOCK, AccessUnit
from relay.worker.codec import Decoder
from relay.worker.file import FileSource, write_file


@pytest.fixture(scope="module")
def units() -> list[AccessUnit]:
    return clip.encoded(1, width=320, height=240)


def _foreign(path: Path, *, audio: bool = True) -> Path:
    """A file as cameras and editors make them: B-frames and AAC."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"bf": "2", "g": "250"})
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        sound = out.add_stream("aac", rate=44_100) if audio else None
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(clip.draw(number, 320, 240), "rgb24")
            frame.pts = number
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if sound is not None:
            for number in range(43):
                wave = np.zeros((2, 1024), np.float32)
                piece = av.AudioFrame.from_ndarray(wave, format="fltp", layout="stereo")
                piece.sample_rate, piece.pts = 44_100, number * 1024
                out.mux(sound.encode(piece))
            out.mux(sound.encode(None))
    return path


def _numbers(units: list[AccessUnit]) -> list[int | None]:
    decoder = Decoder()
    pictures = [p for unit in units if unit.is_video for p in decoder.decode(unit)]
    return [clip.read(picture.to_array("rgb24", (320, 240))) for picture in pictures]


def test_the_clip_is_what_a_camera_sends(units: list[AccessUnit]) -> None:
    video = [unit for unit in units if unit.is_video]
    assert [unit.keyframe for unit in video] == [True] + [False] * 29
    assert [unit.pts for unit in video] == [n * 3000 for n in range(30)]
    assert len(units) - len(video) == 50
    assert _numbers(units) == list(range(30))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_what_was_written_is_read_untouched(
    units: list[AccessUnit], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"clip.{suffix}"
    write_file(path, units)
    source = FileSource(path)
    assert source.copies_video
    assert source.copies_audio
    back = list(source.units())
    assert _numbers(back) == list(range(30))
    for one, other in zip(units, back, strict=True):
        assert abs(one.pts - other.pts) <= 90  # Matroska counts milliseconds
    assert [u.payload for u in back if not u.is_video] == [
        u.payload for u in units if not u.is_video
    ]


def test_another_file_is_transcoded(tmp_path: Path) -> None:
    source = FileSource(_foreign(tmp_path / "foreign.mp4"), keyframe_interval=0.5)
    assert not source.copies_video
    assert not source.copies_audio
    units = list(source.units())
    assert _numbers(units) == list(range(25))
    assert sum(unit.keyframe for unit in units) == 2
    assert [unit.pts for unit in units] == sorted(unit.pts for unit in units)
    sound = [unit for unit in units if not unit.is_video]
    assert 48 <= len(sound) <= 50
    assert {b.pts - a.pts for a, b in pairwise(sound)} == {1800}


def test_a_file_without_sound_has_none(tmp_path: Path) -> None:
    source = FileSource(_foreign(tmp_path / "silent.mp4", audio=False))
    assert not source.has_audio
    assert all(unit.is_video for unit in source.units())


def test_what_is_no_media_file_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no picture here")
    for path in (text, tmp_path / "nowhere.mp4", tmp_path):
        with pytest.raises(BadInput, match=path.name):
            FileSource(path)


def test_nothing_to_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="key frame"):
        write_file(tmp_path / "empty.mp4", [])


def test_a_place_that_cannot_be_written_is_refused(units: list[AccessUnit], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="written"):
        write_file(tmp_path / "no" / "clip.mp4", units)


def test_a_track_on_a_clock_of_its_own_begins_with_the_others(
    units: list[AccessUnit], tmp_path: Path
) -> None:
    far = 3600 * VIDEO_CLOCK
    apart = [u if u.is_video else replace(u, pts=u.pts + far) for u in units]
    write_file(tmp_path / "apart.mkv", apart)
    read = list(FileSource(tmp_path / "apart.mkv").units())
    assert len(read) >= len(units) - 2
    assert max(unit.pts for unit in read) < 2 * VIDEO_CLOCK
