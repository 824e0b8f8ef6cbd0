"""Where segments are cut, and when a key frame is asked for."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media import segmenter as module
from relay.media.mpegts import Demuxer
from relay.media.segmenter import Cut, Segmenter
from relay.media.unit import AccessUnit, Codec
from tests.media.samples import picture, sound
from tests.media.transport import key, packets


def cuts(segmenter: Segmenter, unit: AccessUnit, now: float) -> list[int]:
    return [item.sequence for item in segmenter.push(unit, now) if isinstance(item, Cut)]


def second(at: float, *, is_key: bool = True) -> AccessUnit:
    return picture(round(at * 90000), key=is_key)


def test_nothing_comes_out_before_the_first_key_frame() -> None:
    segmenter = Segmenter(audio=True)
    assert segmenter.push(sound(0), 0.0) == []
    assert segmenter.push(second(0.0, is_key=False), 0.0) == []
    cut, chunk = segmenter.push(second(0.1), 0.1)
    assert cut == Cut(0)
    assert isinstance(chunk, bytes)
    assert [type(item) for item in segmenter.push(sound(9000), 0.1)] == [bytes]


def test_a_cut_has_its_tables_and_its_key_frame_in_one_chunk() -> None:
    segmenter = Segmenter(audio=False, first_sequence=7)
    cut, chunk = segmenter.push(second(0.0), 0.0)
    assert cut == Cut(7)
    assert isinstance(chunk, bytes)
    pids = [(p[1] & 0x1F) << 8 | p[2] for p in packets(chunk)]
    assert pids[:3] == [0, 0x1000, 0x100]
    assert segmenter.push(second(1.0), 1.0)[0] == Cut(8)


@pytest.mark.parametrize(
    ("pts", "now", "cut"),
    [
        (1.0, 1.0, True),
        (0.9, 1.0, False),  # the wall clock alone: a burst of old frames
        (1.0, 0.9, False),  # the media clock alone
        (3.0, 3.0, True),
        (-5.0, 1.0, True),  # another clock: no measure
        (-5.0, 0.5, False),
    ],
)
def test_a_cut_needs_a_second_of_both_clocks(pts: float, now: float, cut: bool) -> None:
    segmenter = Segmenter(audio=False)
    segmenter.push(second(0.0), 0.0)
    assert cuts(segmenter, second(pts), now) == ([1] if cut else [])


def test_a_cut_needs_a_key_frame() -> None:
    segmenter = Segmenter(audio=True, min_duration=0.2)
    assert cuts(segmenter, second(0.0), 0.0) == [0]
    assert cuts(segmenter, second(5.0, is_key=False), 5.0) == []
    assert cuts(segmenter, sound(460000), 5.1) == []
    assert cuts(segmenter, second(5.2), 5.2) == [1]
    assert cuts(segmenter, second(5.3), 5.3) == []


def test_audio_is_left_out_of_a_program_without_it() -> None:
    segmenter = Segmenter(audio=False)
    segmenter.push(second(0.0), 0.0)
    assert segmenter.push(sound(0), 0.0) == []


def test_a_segment_that_grows_too_old_is_cut_anywhere() -> None:
    segmenter = Segmenter(audio=True)
    segmenter.push(second(0.0), 0.0)
    assert cuts(segmenter, second(239.9, is_key=False), 239.9) == []
    assert cuts(segmenter, second(240.0, is_key=False), 240.0) == [1]
    assert cuts(segmenter, sound(0), 480.0) == [2]


def test_a_segment_that_grows_too_large_is_cut_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SEGMENT_BYTES", 10_000)
    segmenter = Segmenter(audio=False)
    segmenter.push(second(0.0), 0.0)
    assert cuts(segmenter, picture(3000, size=10_000), 0.03) == []
    assert cuts(segmenter, picture(6000, size=10_000), 0.07) == [1]
    assert cuts(segmenter, picture(9000), 0.1) == [2]
    assert cuts(segmenter, picture(12000), 0.13) == []


def test_key_frames_are_asked_for_at_once_and_then_at_the_interval() -> None:
    segmenter = Segmenter(audio=False, keyframe_interval=2.0)
    assert segmenter.keyframe_due(10.0)
    assert not segmenter.keyframe_due(10.4)
    assert segmenter.keyframe_due(10.5)
    segmenter.push(second(0.0), 10.6)
    assert not segmenter.keyframe_due(12.5)
    assert segmenter.keyframe_due(12.6)
    assert not segmenter.keyframe_due(13.0)
    assert segmenter.keyframe_due(13.1)
    segmenter.push(second(3.0), 13.2)
    assert not segmenter.keyframe_due(13.9)


@given(
    st.lists(st.tuples(st.sampled_from(["key", "delta", "audio"]), st.floats(0, 0.5)), max_size=80),
    st.floats(0.1, 2.0),
)
def test_segments_hold_everything_from_the_first_key_frame(
    steps: list[tuple[str, float]], min_duration: float
) -> None:
    segmenter = Segmenter(audio=True, min_duration=min_duration)
    now = 0.0
    sent: list[AccessUnit] = []
    segments: list[tuple[float, bytes]] = []
    for kind, step in steps:
        now += step
        pts = round(now * 90000)
        unit = sound(pts) if kind == "audio" else picture(pts, key=kind == "key")
        if sent or unit.keyframe:
            sent.append(unit)
        for item in segmenter.push(unit, now):
            if isinstance(item, Cut):
                assert item.sequence == len(segments)
                segments.append((now, b""))
            else:
                segments[-1] = (segments[-1][0], segments[-1][1] + item)
    found = []
    demuxer = Demuxer()
    for _, data in segments:
        units = Demuxer().feed(data, 0.0)
        assert units[0].keyframe
        found += demuxer.feed(data, 0.0)
    assert [key(u) for u in found] == [key(u) for u in sent]
    assert demuxer.discontinuities == demuxer.dropped_packets == 0
    begun = [at for at, _ in segments]
    assert all(b - a >= min_duration for a, b in itertools.pairwise(begun))
    assert all(u.codec in Codec for u in found)


def test_after_giving_up_the_next_key_frame_cuts_at_once_and_counters_go_on() -> None:
    segmenter = Segmenter(audio=False)
    segmenter.push(second(0.0), 0.0)
    before = segmenter.push(second(0.1, is_key=False), 0.1)
    segmenter.give_up(0.2)
    assert segmenter.push(second(0.2, is_key=False), 0.2) == []
    assert not segmenter.keyframe_due(0.3), "who gives up has asked"
    assert segmenter.keyframe_due(0.71)
    after = segmenter.push(second(0.3), 0.8)
    assert after[0] == Cut(1)
    last, first = before[-1], after[-1]
    assert isinstance(last, bytes)
    assert isinstance(first, bytes)
    ends = packets(last)[-1]
    pid = (ends[1] & 0x1F) << 8 | ends[2]
    begins = next(p for p in packets(first) if (p[1] & 0x1F) << 8 | p[2] == pid)
    assert begins[3] & 15 == (ends[3] + 1) & 15
