"""The queue in front of a reader: bounded, and decodable whatever was dropped."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media.queue import FrameQueue, QueueClosed
from relay.media.unit import AccessUnit
from tests.media.samples import picture, sound


def drained(queue: FrameQueue) -> list[AccessUnit]:
    units = []
    while (unit := queue.get_nowait()) is not None:
        units.append(unit)
    return units


def stamps(queue: FrameQueue) -> list[int]:
    return [unit.pts for unit in drained(queue)]


async def test_units_come_in_order() -> None:
    queue = FrameQueue()
    units = [picture(0, key=True), sound(1), picture(2)]
    for unit in units:
        queue.put(unit)
    assert [await queue.get() for _ in units] == units
    assert queue.get_nowait() is None


async def test_a_reader_waits_for_the_next_unit() -> None:
    queue = FrameQueue()
    reader = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not reader.done()
    queue.put(sound(1))
    queue.put(sound(2))
    assert (await reader).pts == 1
    assert (await queue.get()).pts == 2


async def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    queue = FrameQueue()
    reader = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put(sound(1))
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert (await queue.get()).pts == 1


async def test_a_closed_queue_is_drained_and_then_says_so() -> None:
    queue = FrameQueue()
    queue.put(sound(1))
    queue.close()
    queue.put(sound(2))
    assert queue.closed
    assert (await queue.get()).pts == 1
    for _ in range(2):
        with pytest.raises(QueueClosed):
            await queue.get()
    assert queue.get_nowait() is None
    assert queue.statistics().dropped == 1


async def test_closing_wakes_the_reader() -> None:
    queue = FrameQueue()
    reader = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.close()
    queue.close()
    with pytest.raises(QueueClosed):
        await reader


def test_video_is_dropped_up_to_the_next_key_frame_in_the_queue() -> None:
    queue = FrameQueue(max_units=5)
    for unit in [picture(0, key=True), sound(1), picture(2), picture(3, key=True), picture(4)]:
        queue.put(unit)
    queue.put(sound(5))
    assert stamps(queue) == [1, 3, 4, 5]
    assert queue.statistics().dropped == 2
    assert not queue.statistics().waiting


def test_without_a_key_frame_all_video_goes_until_one_comes() -> None:
    queue = FrameQueue(max_units=3)
    for pts in range(3):
        queue.put(picture(pts, key=pts == 0))
    queue.put(sound(3))
    assert queue.statistics().waiting
    queue.put(picture(4))
    queue.put(picture(5, key=True))
    queue.put(picture(6))
    assert stamps(queue) == [3, 5, 6]
    statistics = queue.statistics()
    assert (statistics.put, statistics.dropped, statistics.waiting) == (7, 4, False)


def test_audio_alone_goes_oldest_first() -> None:
    queue = FrameQueue(max_units=3)
    for pts in range(6):
        queue.put(sound(pts))
    assert stamps(queue) == [3, 4, 5]


def test_bytes_are_bounded() -> None:
    queue = FrameQueue(max_bytes=1000)
    queue.put(picture(0, key=True, size=400))
    queue.put(picture(1, size=400))
    queue.put(picture(2, key=True, size=400))
    assert stamps(queue) == [2]
    queue.put(sound(3, size=2000))
    assert stamps(queue) == []
    queue.put(picture(4, key=True, size=2000))
    assert queue.statistics().waiting
    assert queue.statistics().depth == queue.statistics().bytes == 0


def test_age_is_bounded_by_arrival() -> None:
    queue = FrameQueue(max_age=0.5)
    queue.put(picture(0, key=True, arrival=10.0))
    queue.put(sound(1, arrival=10.1))
    queue.put(picture(2, arrival=10.5))
    queue.put(picture(3, key=True, arrival=10.59))
    assert stamps(queue) == [1, 3]
    queue.put(sound(4, arrival=11.0))
    queue.put(sound(5, arrival=99.0))
    assert stamps(queue) == [5]
    queue.put(picture(6, key=True, arrival=1000.0))
    assert stamps(queue) == [6]


def test_a_queue_may_start_at_a_key_frame() -> None:
    queue = FrameQueue(from_keyframe=True)
    for unit in [picture(0), sound(1), picture(2, key=True), picture(3)]:
        queue.put(unit)
    assert stamps(queue) == [1, 2, 3]


@pytest.mark.parametrize(
    ("bounds", "fits"),
    [
        ({}, True),
        ({"max_units": 4}, True),
        ({"max_units": 3}, False),
        ({"max_bytes": 200}, False),
        ({"max_age": 3.0}, True),
        ({"max_age": 2.0}, False),
    ],
)
def test_a_seed_is_taken_whole_or_not_at_all(bounds: dict[str, int], fits: bool) -> None:
    kept = [picture(n, key=n == 0, size=80, arrival=float(n)) for n in range(3)]
    queue = FrameQueue(from_keyframe=True, **bounds)
    assert queue.seed(kept) is fits
    assert queue.statistics().waiting is not fits
    assert stamps(queue) == ([0, 1, 2] if fits else [])


def test_a_seed_is_for_an_empty_open_queue() -> None:
    queue = FrameQueue()
    assert not queue.seed([])
    queue.put(sound(1))
    assert not queue.seed([picture(0, key=True)])
    closed = FrameQueue()
    closed.close()
    assert not closed.seed([picture(0, key=True)])


@given(
    st.lists(
        st.tuples(st.sampled_from("kdax"), st.integers(0, 300), st.floats(0, 1)), max_size=120
    ),
    st.integers(1, 12),
    st.integers(100, 1500),
    st.none() | st.floats(0, 3),
)
def test_what_is_read_can_be_decoded_and_the_bounds_hold(
    steps: list[tuple[str, int, float]], units: int, size: int, age: float | None
) -> None:
    queue = FrameQueue(max_units=units, max_bytes=size, max_age=age, from_keyframe=True)
    now, put, read = 0.0, 0, []
    sequence = 0
    for kind, length, step in steps:
        now += step
        if kind == "x":
            read += [u for u in [queue.get_nowait()] if u]
            continue
        put += 1
        if kind == "a":
            queue.put(sound(put, size=length, arrival=now))
        else:
            sequence = 0 if kind == "k" else sequence + 1
            # pts: the number of the group in the high part, the place in it in the low part
            queue.put(picture(put << 16 | sequence, key=kind == "k", size=length, arrival=now))
        statistics = queue.statistics()
        assert statistics.depth <= units
        assert statistics.bytes <= size
    statistics = queue.statistics()
    assert statistics.put == put == statistics.dropped + statistics.depth + len(read)
    read += drained(queue)
    assert queue.statistics().bytes == 0
    place = None
    for unit in (u for u in read if u.is_video):
        here = unit.pts & 0xFFFF
        assert here == (0 if unit.keyframe else (place if place is not None else -2) + 1)
        place = here
