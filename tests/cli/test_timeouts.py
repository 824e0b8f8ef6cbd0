"""Timeouts in a task that is cancelled already, as in what it does last."""

from __future__ import annotations

import asyncio


async def test_one_that_expires_is_told_as_such() -> None:
    told: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(60)
            except TimeoutError:
                told.append("expired")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert told == ["expired"]
    assert task.cancelled()


async def test_another_cancellation_ends_it_before_its_time() -> None:
    told: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            try:
                async with asyncio.timeout(60):
                    await asyncio.sleep(60)
            except TimeoutError:
                told.append("expired")

    task = asyncio.create_task(work())
    for _ in range(2):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert told == []
    assert task.cancelled()


async def test_one_within_another_is_told_of_the_outer() -> None:
    told: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            try:
                async with asyncio.timeout(0.01):
                    async with asyncio.timeout(30):
                        await asyncio.sleep(60)
            except TimeoutError:
                told.append("expired")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert told == ["expired"]
