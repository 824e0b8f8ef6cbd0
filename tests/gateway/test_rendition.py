"""The rendition keeps one clock, whatever feeds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from relay.gateway.rendition import AUDIO_GAP, Rendition, lift
from relay.media.h264 import join_annexb
from relay.media.unit import VIDEO_CLOCK, AccessUnit, Codec

SPS = bytes.fromhex("6742c01fda014016e840000003004000000f23c60ca8")
PPS = bytes.fromhex("68ce3c80")
FRAME = VIDEO_CLOCK // 30


class Recorder:
    """Stands where the egress stands and keeps what it is told."""

    def __init__(self) -> None:
        self.video: list[tuple[int, bool]] = []
        self.audio: list[int] = []

    def frame(
        self,
        rendition: str,
        codec: Codec,
        payloads: Sequence[bytes],
        timestamp: int,
        *,
        keyframe: bool = False,
    ) -> None:
        assert payloads
        if codec is Codec.H264:
            self.video.append((timestamp, keyframe))
        else:
            self.audio.append(timestamp)


def picture(pts: int, arrival: float = 0.0, *, keyframe: bool = False) -> AccessUnit:
    nals = [SPS, PPS, b"\x65\x88\x84" + bytes(20)] if keyframe else [b"\x41\x9a" + bytes(20)]
    return AccessUnit(Codec.H264, join_annexb(nals), pts, arrival, keyframe)


def sound(pts: int, arrival: float = 0.0) -> AccessUnit:
    return AccessUnit(Codec.OPUS, b"\xfc\xff\xfe", pts, arrival)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def make(recorder: Any, **options: Any) -> Rendition:
    return Rendition("cam", recorder, **options)


def test_a_session_starts_with_a_key_frame(recorder: Recorder) -> None:
    rendition = make(recorder)
    rendition.begin()
    rendition.source(picture(0))
    assert not rendition.output(picture(0))
    assert rendition.output(picture(FRAME, keyframe=True))
    assert rendition.output(picture(2 * FRAME))
    assert recorder.video == [(FRAME, True), (2 * FRAME, False)]


def test_the_next_session_goes_on_on_the_same_clock_without_a_repeat(recorder: Recorder) -> None:
    rendition = make(recorder)
    rendition.begin()
    for n in range(3):
        rendition.source(picture(n * FRAME))
        rendition.output(picture(n * FRAME, keyframe=n == 0))
    rendition.interrupt()
    rendition.begin()
    # The new worker is given the kept pictures, so it repeats what viewers have seen.
    assert not rendition.output(picture(FRAME, keyframe=True))
    assert not rendition.output(picture(3 * FRAME))
    assert rendition.output(picture(4 * FRAME, keyframe=True))
    assert [pts for pts, _ in recorder.video] == [0, FRAME, 2 * FRAME, 4 * FRAME]


def test_while_no_session_feeds_it_the_sources_sound_goes_on(recorder: Recorder) -> None:
    rendition = make(recorder)
    rendition.begin()
    for n in range(5):
        rendition.source(sound(n * 1800, n * 0.02))
        rendition.output(sound(n * 1800, n * 0.02))
    rendition.source(sound(5 * 1800, 0.1))
    rendition.interrupt()
    rendition.source(sound(6 * 1800, 0.12))
    assert recorder.audio == [n * 960 for n in range(7)]
    rendition.begin()
    rendition.output(sound(6 * 1800, 0.13))
    rendition.output(sound(7 * 1800, 0.14))
    assert recorder.audio == [n * 960 for n in range(8)]


def test_a_session_without_sound_gets_the_sources(recorder: Recorder) -> None:
    rendition = make(recorder)
    rendition.begin()
    times = [n * 0.02 for n in range(30)]
    for n, now in enumerate(times):
        rendition.source(sound(n * 1800, 10 + now))
    assert len(recorder.audio) == 30
    assert recorder.audio == sorted(set(recorder.audio))


def test_a_closed_rendition_sends_nothing_more(recorder: Recorder) -> None:
    rendition = make(recorder)
    rendition.begin()
    rendition.output(picture(0, keyframe=True))
    rendition.output(sound(0))
    rendition.source(sound(1))
    before = len(recorder.video), len(recorder.audio)
    rendition.close()
    rendition.interrupt()
    rendition.source(sound(FRAME))
    assert not rendition.output(picture(FRAME))
    assert (len(recorder.video), len(recorder.audio)) == before


def test_a_short_silence_of_the_output_is_not_filled(recorder: Recorder) -> None:
    rendition = make(recorder)
    rendition.begin()
    rendition.output(sound(0, 10.0))
    rendition.source(sound(1800, 10.0 + AUDIO_GAP / 2))
    assert recorder.audio == [0]
    rendition.source(sound(3600, 10.0 + AUDIO_GAP * 1.1))
    assert recorder.audio == [0, 960, 1920]


def test_the_raw_picture_never_shows_unless_the_operator_wants_it(recorder: Recorder) -> None:
    rendition = make(recorder)
    for n in range(3):
        rendition.source(picture(n * FRAME, keyframe=n == 0))
    assert recorder.video == []
    open_one = make(recorder, show_source=True)
    for n in range(3):
        open_one.source(picture(n * FRAME, keyframe=n == 0))
    assert len(recorder.video) == 3
    open_one.begin()
    open_one.source(picture(3 * FRAME))
    assert len(recorder.video) == 3


def test_the_delay_is_output_minus_input_of_the_same_timestamp(recorder: Recorder) -> None:
    rendition = make(recorder)
    rendition.begin()
    for n in range(10):
        rendition.source(picture(n * FRAME, arrival=n * 0.033))
        rendition.output(picture(n * FRAME, arrival=n * 0.033 + 0.012, keyframe=n == 0))
    delay = rendition.status(0.3).delay
    assert delay is not None
    assert delay.p50_ms == pytest.approx(12)
    assert delay.p95_ms == pytest.approx(12)
    status = rendition.status(0.3)
    assert (status.width, status.height) == (1280, 720)
    later = rendition.status(5.0)
    assert (later.fps, later.delay) == (0, None), "what does not come has no delay"


def test_an_output_on_a_clock_of_its_own_is_moved_to_the_paths(recorder: Recorder) -> None:
    rendition = make(recorder)
    rendition.begin()
    start = 500 * VIDEO_CLOCK
    rendition.source(picture(start))
    rendition.output(picture(7, keyframe=True))
    rendition.output(picture(7 + FRAME))
    assert [pts for pts, _ in recorder.video] == [start, start + FRAME]
    assert rendition.foreign == 1


def test_pictures_sent_ahead_of_the_input_hide_nothing_of_the_next_session(
    recorder: Recorder,
) -> None:
    rendition = make(recorder)
    rendition.begin()
    rendition.source(picture(0))
    for second in range(5):
        rendition.output(picture(second * VIDEO_CLOCK, keyframe=True))
    rendition.begin()
    rendition.source(picture(FRAME))
    assert rendition.output(picture(FRAME, keyframe=True))
    rendition.source(picture(2 * FRAME))
    assert rendition.output(picture(2 * FRAME))
    far = 4 * VIDEO_CLOCK
    assert [pts for pts, _ in recorder.video[-3:]] == [far, far + FRAME, far + 2 * FRAME]


@pytest.mark.parametrize(
    ("pts", "near", "expected"),
    [
        (5, 0, 5),
        (5, 1 << 33, (1 << 33) + 5),
        ((1 << 33) - 5, 1 << 33, (1 << 33) - 5),
        (3, (1 << 34) - 4, (1 << 34) + 3),
        (0, -3, 0),
    ],
)
def test_a_wrapped_timestamp_is_lifted_to_the_nearest(pts: int, near: int, expected: int) -> None:
    assert lift(pts, near) == expected
