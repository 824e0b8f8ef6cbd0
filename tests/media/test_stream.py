"""The group of pictures that is kept of a publisher."""

from __future__ import annotations

import dataclasses

import pytest

from relay.media import stream as module
from relay.media.h264 import join_annexb, parse_sps
from relay.media.stream import Stream
from tests.media.samples import PPS, SPS_180P, idr_slice, picture, sound


def stamps(stream: Stream) -> list[int]:
    return [unit.pts for unit in stream.group()]


def test_the_group_is_what_came_since_the_last_key_frame() -> None:
    stream = Stream()
    stream.publish(picture(0))
    stream.publish(sound(1))
    assert stamps(stream) == []
    for unit in [picture(2, key=True), picture(3), picture(4, key=True), sound(5), picture(6)]:
        stream.publish(unit)
    assert stamps(stream) == [4, 5, 6]


def test_the_group_that_was_handed_out_does_not_change() -> None:
    stream = Stream()
    stream.publish(picture(0, key=True))
    group = stream.group()
    stream.publish(picture(1))
    assert [unit.pts for unit in group] == [0]


def test_the_group_is_bounded_in_time() -> None:
    stream = Stream()
    stream.publish(picture(0, key=True))
    stream.publish(picture(900_000))
    assert len(stream.group()) == 2
    stream.publish(picture(900_001))
    assert stream.group() == []
    stream.publish(picture(900_002))
    assert stream.group() == []
    stream.publish(picture(900_003, key=True))
    assert len(stream.group()) == 1
    stream.publish(picture(-1))
    assert stream.group() == []


@pytest.mark.parametrize(("name", "bound"), [("MAX_GROUP_BYTES", 5000), ("MAX_GROUP_UNITS", 8)])
def test_the_group_is_bounded_in_size(
    monkeypatch: pytest.MonkeyPatch, name: str, bound: int
) -> None:
    monkeypatch.setattr(module, name, bound)
    stream = Stream()
    sizes = []
    for n in range(20):
        stream.publish(picture(n, key=n % 10 == 0, size=600))
        sizes.append(len(stream.group()))
    assert max(sizes) == 8
    assert sizes[9] == sizes[19] == 0
    assert sizes[10] == 1


def test_key_frames_are_kept_with_their_parameter_sets() -> None:
    stream = Stream()
    assert stream.sps is None
    stream.publish(picture(0, key=True))
    assert stream.sps == parse_sps(SPS_180P)
    bare = dataclasses.replace(picture(1, key=True), payload=join_annexb([idr_slice()]))
    stream.publish(bare)
    stream.publish(picture(2))
    assert stream.group()[0].payload == join_annexb([SPS_180P, PPS, idr_slice()])
    assert stream.sps == parse_sps(SPS_180P)


def test_a_stream_that_ends_keeps_nothing() -> None:
    stream = Stream()
    stream.publish(picture(0, key=True))
    stream.close()
    stream.close()
    stream.publish(picture(1, key=True))
    assert stream.group() == []
