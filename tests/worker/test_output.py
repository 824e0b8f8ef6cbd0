from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from relay.errors import ChannelClosed
from relay.media.mpegts import Demuxer
from relay.media.unit import AccessUnit
from relay.protocols.trickle.publisher import TricklePublisher
from relay.worker.output import Output
from tests.worker import clip


class Segment:
    def __init__(self, room: int) -> None:
        self.data = b""
        self.ended = False
        self.room = room

    def write(self, data: bytes) -> bool:
        if len(self.data) + len(data) > self.room:
            return False
        self.data += data
        return True

    def end(self) -> None:
        self.ended = True


class Publisher:
    """The two things that an output does with a publisher, kept for looking at."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.room = 1 << 30
        self.failed = False

    def begin(self) -> Segment:
        if self.failed:
            raise ChannelClosed("gone")
        self.segments.append(Segment(self.room))
        return self.segments[-1]


def made() -> tuple[Output, Publisher, list[None]]:
    publisher, wanted = Publisher(), list[None]()
    output = Output(cast("TricklePublisher", publisher), lambda: wanted.append(None))
    return output, publisher, wanted


def units_of(publisher: Publisher) -> list[AccessUnit]:
    demuxer = Demuxer()
    data = b"".join(segment.data for segment in publisher.segments)
    return demuxer.feed(data, 0.0) + demuxer.flush(0.0)


def feed(output: Output, units: list[AccessUnit], **kwargs: Any) -> None:
    for unit in units:
        output.push(unit, unit.pts / 90_000)


def test_nothing_comes_before_the_first_key_frame() -> None:
    output, publisher, wanted = made()
    output.has_audio()
    output.push(clip.opus(0, 1), 0.0)
    feed(output, clip.video(frames=5)[1:])
    assert publisher.segments == []
    assert wanted == []


def test_segments_are_cut_at_key_frames_and_the_last_one_ends() -> None:
    output, publisher, _ = made()
    feed(output, clip.video(frames=65))
    assert [segment.ended for segment in publisher.segments] == [True, True, False]
    output.end()
    assert publisher.segments[-1].ended
    assert len(units_of(publisher)) == 65


def test_a_segment_that_is_full_is_left_and_a_key_frame_asked_for() -> None:
    output, publisher, wanted = made()
    video = clip.video(frames=45)
    publisher.room = len(video[0].payload) * 2
    feed(output, video)
    assert len(wanted) >= 1
    assert not publisher.segments[0].ended
    assert len(publisher.segments) == 2
    assert units_of(publisher)[0].keyframe


def test_audio_that_turns_up_later_is_taken_in_with_the_next_key_frame() -> None:
    output, publisher, wanted = made()
    feed(output, clip.video(frames=10))
    output.push(clip.opus(3000, 1), 0.4)
    output.has_audio()
    assert len(wanted) == 1
    output.has_audio()
    assert len(wanted) == 1
    feed(output, clip.video(frames=10, start=90_000))
    output.push(clip.opus(120_000, 2), 1.4)
    output.end()
    assert [unit.pts for unit in units_of(publisher) if not unit.is_video] == [120_000]


def test_a_channel_that_is_gone_is_told() -> None:
    output, publisher, _ = made()
    publisher.failed = True
    with pytest.raises(ChannelClosed):
        feed(output, clip.video(frames=1))


def test_after_a_lost_segment_the_next_key_frame_begins_one_at_once() -> None:
    output, publisher, wanted = made()
    first, *rest = clip.video(frames=4)
    output.push(first, 0.0)
    publisher.segments[0].room = 0
    output.push(rest[0], 0.03)
    assert len(wanted) == 1
    output.push(rest[1], 0.06)
    assert len(publisher.segments) == 1, "what depends on the lost picture is left out"
    output.push(replace(first, pts=rest[2].pts), 0.1)
    assert [bool(segment.data) for segment in publisher.segments] == [True, True]
