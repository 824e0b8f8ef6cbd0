from __future__ import annotations

import threading

import pytest

from relay.errors import RateLimited
from relay.media.unit import AccessUnit, Codec
from relay.worker.ring import MAX_COMMANDS, Ring


def unit(number: int, *, keyframe: bool = False, size: int = 10) -> AccessUnit:
    return AccessUnit(Codec.H264, b"x" * size, number, 0.0, keyframe)


def taken(ring: Ring) -> list[int]:
    work = ring.take()
    assert work is not None
    return [each.pts for each in work[1]]


def test_everything_that_waits_is_taken_at_once_and_in_order() -> None:
    ring = Ring()
    for number in range(5):
        ring.put(unit(number))
    assert taken(ring) == [0, 1, 2, 3, 4]
    assert ring.statistics().size == 0


def test_a_full_ring_drops_up_to_the_next_key_frame() -> None:
    ring = Ring(max_units=4)
    for number in range(7):
        ring.put(unit(number))
    assert ring.statistics().dropped == 7
    ring.put(unit(8, keyframe=True))
    ring.put(unit(9))
    assert taken(ring) == [8, 9]


def test_a_key_frame_that_meets_a_full_ring_replaces_it() -> None:
    ring = Ring(max_units=4)
    for number in range(4):
        ring.put(unit(number))
    ring.put(unit(4, keyframe=True))
    assert taken(ring) == [4]
    assert ring.statistics().dropped == 4


def test_bytes_are_bounded_too() -> None:
    ring = Ring(max_bytes=100)
    for number in range(30):
        ring.put(unit(number, size=40))
        assert ring.statistics().size <= 100
    ring.put(unit(30, keyframe=True, size=101))
    assert ring.statistics().size <= 101


def test_commands_come_first_and_are_bounded() -> None:
    ring = Ring()
    ring.put(unit(0))
    for _ in range(MAX_COMMANDS):
        ring.call(lambda: None)
    with pytest.raises(RateLimited):
        ring.call(lambda: None)
    work = ring.take()
    assert work is not None
    assert len(work[0]) == MAX_COMMANDS
    ring.call(lambda: None)


def test_a_reader_wakes_for_a_frame_and_for_the_end() -> None:
    ring = Ring()
    seen: list[object] = []

    def read() -> None:
        while (work := ring.take()) is not None:
            for command in work[0]:
                command()
            seen.extend(each.pts for each in work[1])

    reader = threading.Thread(target=read)
    reader.start()
    ring.put(unit(7))
    ring.call(lambda: seen.append("ran"))
    ran = threading.Event()
    ring.call(ran.set)
    assert ran.wait(5)
    ring.close()
    reader.join(5)
    assert not reader.is_alive()
    assert seen == ["ran", 7] or seen == [7, "ran"]


def test_a_closed_or_cleared_ring_keeps_nothing() -> None:
    ring = Ring()
    ring.put(unit(0))
    ring.clear()
    assert ring.statistics().depth == 0
    ring.close()
    ring.put(unit(1))
    assert ring.take() is None
