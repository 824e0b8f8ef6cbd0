"""Work that several ask for at once is done once, and ends when nobody waits for it."""

from __future__ import annotations

import asyncio

import pytest

from relay.errors import Unavailable
from relay.market.shared import Shared


class Work:
    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if number == 2:
            raise Unavailable("nobody")
        return number


async def test_those_who_ask_at_once_share_and_the_next_begins_anew() -> None:
    shared, work = Shared[int](), Work()
    assert await asyncio.gather(*(shared.run("a", work) for _ in range(5))) == [1] * 5
    failed = await asyncio.gather(
        *(shared.run("a", work) for _ in range(3)), return_exceptions=True
    )
    assert [type(one) for one in failed] == [Unavailable] * 3
    both = [*await asyncio.gather(shared.run("a", work), shared.run("b", work))]
    assert both == [3, 4]
    assert not shared._flights


async def test_it_goes_on_while_anybody_waits_and_ends_with_the_last() -> None:
    shared, work = Shared[int](), Work()
    first, second = (asyncio.create_task(shared.run("a", work)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 1
    assert work.cancelled == 0
    alone = asyncio.create_task(shared.run("a", work))
    await asyncio.sleep(0.005)
    alone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await alone
    assert work.cancelled == 1
    assert not shared._flights
    assert await shared.run("a", work) == 3
