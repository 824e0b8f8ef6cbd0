"""One publisher, many readers, and the group of pictures that is kept."""

from __future__ import annotations

import dataclasses

import pytest

from relay.media import stream as module
from relay.media.h264 import join_annexb, parse_sps
from relay.media.queue import QueueClosed
from relay.media.stream import Stream
from tests.media.samples import PPS, SPS_180P, idr_slice, picture, sound
from tests.media.test_queue import stamps


def test_every_reader_gets_every_unit_from_a_key_frame_on() -> None:
    stream = Stream()
    one = stream.subscribe()
    stream.publish(picture(0))
    stream.publish(picture(1, key=True))
    two = stream.subscribe()
    stream.publish(sound(2))
    stream.publish(picture(3))
    stream.publish(picture(4, key=True))
    assert stream.readers == 2
    assert stamps(one) == [1, 2, 3, 4]
    assert stamps(two) == [2, 4]


def test_a_reader_may_start_from_the_kept_group() -> None:
    stream = Stream()
    assert stamps(stream.subscribe(from_group=True)) == []
    for unit in [picture(0, key=True), picture(1), picture(2, key=True), sound(3), picture(4)]:
        stream.publish(unit)
    queue = stream.subscribe(from_group=True)
    stream.publish(picture(5))
    assert stamps(queue) == [2, 3, 4, 5]
    assert [unit.pts for unit in stream.group()] == [2, 3, 4, 5]


def test_a_group_that_does_not_fit_the_queue_is_no_start() -> None:
    stream = Stream()
    for n in range(5):
        stream.publish(picture(n, key=n == 0))
    queue = stream.subscribe(from_group=True, max_units=5)
    stream.publish(picture(5))
    stream.publish(picture(6, key=True))
    assert stamps(queue) == [6]


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


def test_key_frames_leave_with_their_parameter_sets() -> None:
    stream = Stream()
    queue = stream.subscribe()
    assert stream.sps is None
    stream.publish(picture(0, key=True))
    assert stream.sps == parse_sps(SPS_180P)
    bare = dataclasses.replace(picture(1, key=True), payload=join_annexb([idr_slice()]))
    stream.publish(bare)
    stream.publish(picture(2))
    expected = join_annexb([SPS_180P, PPS, idr_slice()])
    assert [u.payload for u in (queue.get_nowait(), queue.get_nowait()) if u] == [expected] * 2
    assert stream.group()[0].payload == expected
    assert stream.sps == parse_sps(SPS_180P)


async def test_a_reader_that_leaves() -> None:
    stream = Stream()
    queue = stream.subscribe()
    stream.publish(picture(0, key=True))
    stream.unsubscribe(queue)
    stream.unsubscribe(queue)
    stream.publish(picture(1))
    assert stream.readers == 0
    assert (await queue.get()).pts == 0
    with pytest.raises(QueueClosed):
        await queue.get()


async def test_a_stream_that_ends() -> None:
    stream = Stream()
    queue = stream.subscribe()
    stream.publish(picture(0, key=True))
    stream.close()
    stream.close()
    stream.publish(picture(1))
    assert (await queue.get()).pts == 0
    with pytest.raises(QueueClosed):
        await queue.get()
    with pytest.raises(QueueClosed):
        await stream.subscribe(from_group=True).get()
    assert stream.group() == []
    assert stream.readers == 0


def test_a_slow_reader_hurts_only_itself() -> None:
    stream = Stream()
    slow, quick = stream.subscribe(max_units=4), stream.subscribe()
    read = []
    for n in range(100):
        stream.publish(picture(n, key=n % 30 == 0))
        read += stamps(quick)
    assert read == list(range(100))
    assert slow.statistics().depth <= 4
    assert slow.statistics().dropped >= 96
