"""Access units sent at the pace of their time, as a camera would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice, takewhile
from typing import Final

from relay.media.unit import VIDEO_CLOCK, AccessUnit

BATCH: Final = 32
MAX_BACK: Final = 10 * VIDEO_CLOCK
MAX_KEPT: Final = 32 << 20
"""Ticks and octets since the last key frame; of more than that nothing is kept to go back to."""
BEHIND: Final = 0.5
"""Seconds that are made up for. Who stood still for longer goes on from there, as a camera that was
covered: what it would send at once is more than a line carries, and nobody shows it."""


async def pace(
    units: Iterable[AccessUnit] | AsyncIterator[AccessUnit],
    send: Callable[[AccessUnit], None],
) -> None:
    """Send each unit when its time has come, counted from the first one sent.

    The unit's ``arrival`` is the moment it is sent.
    """
    await Pacer(units, send).run()


class Pacer:
    """As ``pace``, and it can go back to the last key frame."""

    def __init__(
        self,
        units: Iterable[AccessUnit] | AsyncIterator[AccessUnit],
        send: Callable[[AccessUnit], None],
    ) -> None:
        self._units = units if isinstance(units, AsyncIterator) else _each(units)
        self._send = send
        self._back = False
        self._group: list[AccessUnit] = []  # sent, from the last key frame on
        self._octets = 0
        self._shift = 0
        self._waking: asyncio.Future[None] | None = None

    def go_back(self) -> None:
        """Go on from the last key frame, now: for a receiver that has seen nothing yet.

        What follows is later by as much from then on, picture and sound alike, so that times
        only grow. Where the last key frame is farther back than is kept, all stays as it is.
        """
        self._back = True
        _wake(self._waking)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        began: float | None = None
        last = 0
        async for read in self._units:
            coming = [read]  # the next one last
            while coming:
                if self._back and began is not None:
                    now = round((loop.time() - began) * VIDEO_CLOCK)
                    self._put_back(coming, max(now, last + 1))
                pts = coming[-1].pts + self._shift
                if began is None:
                    began = loop.time() - pts / VIDEO_CLOCK
                wait = began + pts / VIDEO_CLOCK - loop.time()
                if wait < -BEHIND:
                    late = round(-wait * VIDEO_CLOCK)
                    self._shift, pts = self._shift + late, pts + late
                if wait > 0:
                    await self._sleep(wait)
                    if self._back:
                        continue
                else:
                    await asyncio.sleep(0)  # who is behind still answers for its connection
                unit, last = coming.pop(), pts
                self._keep(unit)
                self._send(replace(unit, pts=pts, arrival=time.monotonic()))

    async def _sleep(self, seconds: float) -> None:
        """Until then, or until it is to go back."""
        loop = asyncio.get_running_loop()
        self._waking = loop.create_future()
        timer = loop.call_later(seconds, _wake, self._waking)
        try:
            await self._waking
        finally:
            timer.cancel()

    def _put_back(self, coming: list[AccessUnit], now: int) -> None:
        self._back = False
        if self._group:
            self._shift = now - self._group[0].pts
            coming += reversed(self._group)
            self._group = []

    def _keep(self, unit: AccessUnit) -> None:
        if unit.is_video and unit.keyframe:
            self._group, self._octets = [], 0
        elif not self._group:
            return
        self._group.append(unit)
        self._octets += len(unit.payload)
        if self._octets > MAX_KEPT or unit.pts - self._group[0].pts > MAX_BACK:
            self._group = []


def _wake(waking: asyncio.Future[None] | None) -> None:
    if waking is not None and not waking.done():
        waking.set_result(None)


async def _each(units: Iterable[AccessUnit]) -> AsyncIterator[AccessUnit]:
    for unit in units:
        yield unit


async def read_ahead(units: Iterator[AccessUnit]) -> AsyncIterator[AccessUnit]:
    """Units that are made slowly (decoding, encoding), made in a thread one batch ahead.

    Once it is closed no other unit is begun: a process that ends waits for its threads.
    """
    wanted = True

    def batch() -> list[AccessUnit]:
        return list(takewhile(lambda _: wanted, islice(units, BATCH)))

    coming = asyncio.create_task(asyncio.to_thread(batch))
    try:
        while made := await coming:
            coming = asyncio.create_task(asyncio.to_thread(batch))
            for unit in made:
                yield unit
    finally:
        wanted = False
        coming.cancel()


def endless(passes: Callable[[], Iterable[AccessUnit]]) -> Iterator[AccessUnit]:
    """One pass after the other, their time going on: a pass begins where the last one ended."""
    offset = 0
    while True:
        last = end = offset
        for unit in passes():
            pts = unit.pts + offset
            if unit.is_video:
                end, last = pts + max(pts - last, 1), pts
            yield replace(unit, pts=pts)
        if end == offset:
            return
        offset = end
