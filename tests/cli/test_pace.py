from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from itertools import islice, pairwise

import pytest

from relay.cli.pace import BATCH, BEHIND, MAX_KEPT, Pacer, endless, pace, read_ahead
from relay.media.unit import VIDEO_CLOCK, AccessUnit, Codec
from tests.network import eventually


def _video(*times: int) -> list[AccessUnit]:
    return [AccessUnit(Codec.H264, b"", pts, 0.0, keyframe=pts == 0) for pts in times]


async def test_units_are_sent_in_order_and_never_early() -> None:
    sent: list[tuple[int, float]] = []
    loop = asyncio.get_running_loop()
    await pace(_video(900, 1800, 4500), lambda unit: sent.append((unit.pts, loop.time())))
    assert [pts for pts, _ in sent] == [900, 1800, 4500]
    assert sent[2][1] - sent[0][1] >= 0.04 - 0.001


async def test_who_is_behind_lets_others_have_their_turns() -> None:
    turns, sent = 0, []
    loop = asyncio.get_running_loop()

    def turn() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(turn)

    turn()
    units = [AccessUnit(Codec.H264, b"", 0, 0.0, keyframe=True) for _ in range(50)]
    await pace(units, lambda unit: sent.append(turns))
    assert sent == sorted(set(sent))


async def test_who_stood_still_goes_on_from_there_and_sends_nothing_at_once() -> None:
    sent: list[AccessUnit] = []

    def send(unit: AccessUnit) -> None:
        sent.append(unit)
        if len(sent) == 2:
            time.sleep(BEHIND + 0.3)

    await pace(_video(*range(0, 9000, 900)), send)
    times = [unit.pts for unit in sent]
    assert min(b - a for a, b in pairwise(times)) == 900, "who is late for less catches up"
    assert times[2] - times[1] >= (BEHIND + 0.3) * VIDEO_CLOCK
    assert sent[-1].arrival - sent[2].arrival >= (times[-1] - times[2]) / VIDEO_CLOCK - 0.001


async def test_the_time_of_sending_is_the_arrival() -> None:
    sent: list[AccessUnit] = []
    await pace(_video(0, 90), sent.append)
    assert 0 < sent[0].arrival <= sent[1].arrival


class _Taken:
    """What a pacer sent; after some units it has it go back."""

    def __init__(self, units: list[AccessUnit], back_after: tuple[int, ...] = ()) -> None:
        self.sent: list[AccessUnit] = []
        self._back_after = back_after
        self.pacer = Pacer(units, self._take)

    def _take(self, unit: AccessUnit) -> None:
        self.sent.append(unit)
        if len(self.sent) in self._back_after:
            self.pacer.go_back()

    @property
    def payloads(self) -> list[bytes]:
        return [unit.payload for unit in self.sent]


def _both(*times: int, keys: tuple[int, ...] = (0,), size: int = 0) -> list[AccessUnit]:
    """A picture and, a tick later, its sound, each named after its time."""
    units = []
    for pts in times:
        name = str(pts).encode() + b"." * size
        units.append(AccessUnit(Codec.H264, b"v" + name, pts, 0.0, keyframe=pts in keys))
        units.append(AccessUnit(Codec.OPUS, b"a" + name, pts + 1, 0.0))
    return units


async def test_it_goes_back_to_the_last_key_frame_with_the_sound_and_times_only_grow() -> None:
    units = _both(*range(0, 5400, 900), keys=(0, 1800))
    taken = _Taken(units, back_after=(9, 12))  # within the second group, and again
    await taken.pacer.run()
    was = [unit.payload for unit in units]
    assert taken.payloads == was[:9] + was[4:7] + was[4:]
    times = [unit.pts for unit in taken.sent]
    assert times == sorted(set(times))
    for begin in (9, 12):  # from there on as far apart as in the file
        shifted = times[begin] - units[4].pts
        assert shifted > 0
        end = 12 if begin == 9 else len(times)
        assert times[begin:end] == [unit.pts + shifted for unit in units[4 : 4 + end - begin]]
    assert taken.sent[-1].arrival - taken.sent[0].arrival >= times[-1] / VIDEO_CLOCK - 0.001


async def test_it_does_not_wait_for_the_next_picture_to_go_back() -> None:
    taken = _Taken(_both(0, 900, 90 * VIDEO_CLOCK))
    running = asyncio.create_task(taken.pacer.run())
    await eventually(lambda: len(taken.sent) == 4)
    taken.pacer.go_back()
    await eventually(lambda: len(taken.sent) == 8)
    running.cancel()
    assert taken.payloads[4:] == taken.payloads[:4]


async def test_a_key_frame_that_is_too_far_back_is_not_gone_back_to() -> None:
    units = _both(0, 900, 1800, size=MAX_KEPT // 5)
    taken = _Taken(units, back_after=(5,))
    await taken.pacer.run()
    assert taken.payloads == [unit.payload for unit in units]


def test_a_second_pass_goes_on_where_the_first_ended() -> None:
    units = list(islice(endless(lambda: _video(0, 3000, 6000)), 7))
    assert [unit.pts for unit in units] == [0, 3000, 6000, 9000, 12000, 15000, 18000]


def test_a_file_with_nothing_in_it_is_not_read_for_ever() -> None:
    assert list(endless(list)) == []


async def test_reading_ahead_loses_nothing() -> None:
    assert [unit.pts async for unit in read_ahead(iter(_video(*range(100))))] == list(range(100))


async def test_a_failure_in_the_thread_is_heard() -> None:
    def units() -> object:
        yield from _video(0)
        raise ValueError("broken off")

    with pytest.raises(ValueError, match="broken off"):
        async for _ in read_ahead(units()):  # type: ignore[arg-type]
            pass


async def test_units_that_nobody_waits_for_any_more_are_not_made() -> None:
    made, begun, on = list[AccessUnit](), threading.Event(), threading.Event()

    def units() -> Iterator[AccessUnit]:
        for unit in _video(*range(4 * BATCH)):
            if len(made) == BATCH:
                begun.set()
                on.wait(60)
            made.append(unit)
            yield unit

    reading = read_ahead(units())
    async for _ in reading:
        break
    await eventually(begun.is_set)
    await reading.aclose()  # type: ignore[attr-defined]
    on.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert len(made) == BATCH + 1
