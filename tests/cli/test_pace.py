from __future__ import annotations

import asyncio
from itertools import islice

import pytest

from relay.cli.pace import endless, pace, read_ahead
from relay.media.unit import AccessUnit, Codec


def _video(*times: int) -> list[AccessUnit]:
    return [AccessUnit(Codec.H264, b"", pts, 0.0, keyframe=pts == 0) for pts in times]


async def test_units_are_sent_in_order_and_never_early() -> None:
    sent: list[tuple[int, float]] = []
    loop = asyncio.get_running_loop()
    await pace(_video(900, 1800, 4500), lambda unit: sent.append((unit.pts, loop.time())))
    assert [pts for pts, _ in sent] == [900, 1800, 4500]
    assert sent[2][1] - sent[0][1] >= 0.04 - 0.001


async def test_the_time_of_sending_is_the_arrival() -> None:
    sent: list[AccessUnit] = []
    await pace(_video(0, 90), sent.append)
    assert 0 < sent[0].arrival <= sent[1].arrival


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
