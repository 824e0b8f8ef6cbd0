"""Access units sent at the pace of their time, as a camera would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Final

from relay.media.unit import VIDEO_CLOCK, AccessUnit

BATCH: Final = 32


async def pace(
    units: Iterable[AccessUnit] | AsyncIterator[AccessUnit],
    send: Callable[[AccessUnit], None],
) -> None:
    """Send each unit when its time has come, counted from the first one sent.

    The unit's ``arrival`` is the moment it is sent.
    """
    loop = asyncio.get_running_loop()
    began: float | None = None
    async for unit in units if isinstance(units, AsyncIterator) else _each(units):
        due = unit.pts / VIDEO_CLOCK
        if began is None:
            began = loop.time() - due
        if (wait := began + due - loop.time()) > 0:
            await asyncio.sleep(wait)
        send(replace(unit, arrival=time.monotonic()))


async def _each(units: Iterable[AccessUnit]) -> AsyncIterator[AccessUnit]:
    for unit in units:
        yield unit


async def read_ahead(units: Iterator[AccessUnit]) -> AsyncIterator[AccessUnit]:
    """Units that are made slowly (decoding, encoding), made in a thread one batch ahead."""

    def batch() -> list[AccessUnit]:
        return list(islice(units, BATCH))

    coming = asyncio.create_task(asyncio.to_thread(batch))
    try:
        while made := await coming:
            coming = asyncio.create_task(asyncio.to_thread(batch))
            for unit in made:
                yield unit
    finally:
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
