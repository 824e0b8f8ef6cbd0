"""Timeouts in a task that is cancelled already, as in what it does last."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence


async def _cancelled(limits: Sequence[float], times: int = 1) -> bool:
    """Cancel a task so many times, whose last act is to sleep within these timeouts, the outer
    ones first; whether it was told that one has expired."""
    told: list[bool] = []

    async def within(limits: Sequence[float]) -> None:
        if not limits:
            await asyncio.sleep(60)
            return
        async with asyncio.timeout(limits[0]):
            await within(limits[1:])

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            try:
                await within(limits)
            except TimeoutError:
                told.append(True)

    task = asyncio.create_task(work())
    for _ in range(times):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()
    return bool(told)


async def test_one_that_expires_is_told_as_such() -> None:
    assert await _cancelled([0.01])


async def test_another_cancellation_ends_it_before_its_time() -> None:
    assert not await _cancelled([60], times=2)


async def test_one_around_another_is_told_too() -> None:
    assert await _cancelled([0.01, 30])
