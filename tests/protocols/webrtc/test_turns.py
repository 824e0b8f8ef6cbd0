"""The work of joins leaves room in each turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from relay.errors import Unavailable
from relay.protocols.webrtc.turns import MAX_DATAGRAMS, MAX_WAITING, SLICE, Line, Turns


class Loop:
    """Turns by hand, and a clock that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self._soon: list[Callable[[], None]] = []
        self.turns = Turns(self._soon.append, lambda: self.now)

    def turn(self) -> None:
        called, self._soon[:] = list(self._soon), []
        for callback in called:
            callback()

    @property
    def idle(self) -> bool:
        return not self._soon


class Work:
    """Pieces of work that take a while each, and say what was done."""

    def __init__(self, loop: Loop, seconds: float = 2 * SLICE) -> None:
        self.loop = loop
        self.seconds = seconds
        self.done: list[int] = []

    def piece(self, number: int, *, full: bool = False) -> Callable[[], bool]:
        def work() -> bool:
            self.loop.now += self.seconds
            self.done.append(number)
            return full

        return work


def test_the_first_work_is_done_at_once() -> None:
    loop = Loop()
    work = Work(loop)
    loop.turns.put(work.piece(1))
    assert work.done == [1]


def test_long_work_is_done_one_a_turn_in_the_order_it_came() -> None:
    loop = Loop()
    work = Work(loop)
    for number in range(4):
        loop.turns.put(work.piece(number))
    assert work.done == [0]
    for expected in ([0, 1], [0, 1, 2], [0, 1, 2, 3]):
        loop.turn()
        assert work.done == expected


def test_short_work_shares_a_turn() -> None:
    loop = Loop()
    work = Work(loop, seconds=SLICE / 4)
    for number in range(9):
        loop.turns.put(work.piece(number))
    loop.turn()
    assert len(work.done) == 5
    loop.turn()
    assert len(work.done) == 9


def test_a_turn_without_work_ends_it() -> None:
    loop = Loop()
    work = Work(loop)
    loop.turns.put(work.piece(1))
    loop.turn()
    assert loop.idle
    loop.turns.put(work.piece(2))
    assert work.done == [1, 2]


def test_work_that_takes_the_turn_is_the_last_of_it() -> None:
    loop = Loop()
    work = Work(loop, seconds=0)
    loop.turns.put(work.piece(0))
    loop.turns.put(work.piece(1, full=True))
    loop.turns.put(work.piece(2))
    loop.turn()
    assert work.done == [0, 1]
    loop.turn()
    assert work.done == [0, 1, 2]


def test_work_that_fails_does_not_stop_the_rest() -> None:
    loop = Loop()
    work = Work(loop)

    def fails() -> bool:
        raise RuntimeError("as it may")

    loop.turns.put(work.piece(0))
    loop.turns.put(fails)
    loop.turns.put(work.piece(1))
    with pytest.raises(RuntimeError, match="as it may"):
        loop.turn()
    loop.turn()
    assert work.done == [0, 1]


def test_two_handshakes_take_turns() -> None:
    loop = Loop()
    seen: list[bytes] = []

    def handle(data: bytes) -> None:
        loop.now += 2 * SLICE
        seen.append(data)

    one, other = Line(loop.turns, handle, 0.0), Line(loop.turns, handle, 0.0)
    for data in (b"a1", b"a2", b"a3"):
        one.put(data, 0.0)
    for data in (b"b1", b"b2"):
        other.put(data, 0.0)
    while not loop.idle:
        loop.turn()
    assert seen == [b"a1", b"a2", b"b1", b"a3", b"b2"]


def test_a_handshake_holds_so_many_datagrams_and_no_more() -> None:
    loop = Loop()
    seen: list[bytes] = []
    line = Line(loop.turns, seen.append, 0.0)
    loop.turns.put(lambda: False)
    room = [line.put(bytes([number]), 0.0) for number in range(MAX_DATAGRAMS + 2)]
    assert room == [True] * MAX_DATAGRAMS + [False] * 2
    while not loop.idle:
        loop.turn()
    assert seen == [bytes([number]) for number in range(MAX_DATAGRAMS)]


def test_what_is_left_at_the_end_is_not_looked_at() -> None:
    loop = Loop()
    seen: list[bytes] = []
    line = Line(loop.turns, seen.append, 0.0)
    loop.turns.put(lambda: False)
    line.put(b"of a peer that has ended", 0.0)
    line.close()
    while not loop.idle:
        loop.turn()
    assert not seen


async def test_of_many_offers_one_goes_on_a_turn() -> None:
    loop = asyncio.get_running_loop()
    turns = Turns(loop.call_soon)
    done: list[int] = []

    async def offer(number: int) -> None:
        await turns.turn()
        done.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(offer(number))
        counts = []
        while len(done) < 20:
            await asyncio.sleep(0)
            counts.append(len(done))
    assert done == list(range(20))
    assert max(after - before for before, after in pairwise(counts)) == 1


async def test_an_offer_that_is_called_off_holds_nobody_up() -> None:
    turns = Turns(asyncio.get_running_loop().call_soon)
    waiting = [asyncio.create_task(turns.turn()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.wait_for(waiting[2], 5)
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.sleep(0)
    await turns.turn()


async def test_offers_over_the_bound_are_refused() -> None:
    turns = Turns(asyncio.get_running_loop().call_soon)
    waiting = [asyncio.create_task(turns.turn()) for _ in range(MAX_WAITING + 1)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await turns.turn()
    assert refused.value.code == "busy"
    assert refused.value.retry_after == 1
    await asyncio.gather(*waiting)
    await turns.turn()
