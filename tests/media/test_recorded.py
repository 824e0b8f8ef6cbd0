"""Consecutive input segments of a stock gateway, through our demuxer as one stream."""

from __future__ import annotations

from relay.media.mpegts import Demuxer
from tests.media.samples import capture


def test_three_segments_whose_counters_start_anew_are_one_stream() -> None:
    demuxer = Demuxer()
    units = []
    for number in range(3):
        units += demuxer.feed(capture(f"input-{number}"), 0.0)
    units += demuxer.flush(0.0)
    assert [unit.pts for unit in units] == list(range(0, 540_000, 3000))
    assert [unit.pts for unit in units if unit.keyframe] == [0, 180_000, 360_000]


def test_a_stream_may_be_joined_in_the_middle_of_a_segment() -> None:
    demuxer = Demuxer()
    # No tables yet: nothing can be known of these packets, and nothing breaks.
    assert demuxer.feed(capture("input-av-0.last-40-packets"), 0.0) == []
    units = demuxer.feed(capture("input-1"), 0.0)
    assert units[0].keyframe
