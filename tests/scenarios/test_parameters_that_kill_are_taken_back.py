"""One change of the parameters under which every worker dies: the gateway does not burn
through all orchestrators with it, and the stream goes on as it was before.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from relay.gateway.status import StreamState
from tests.gateway.desk import NAME, Desk, gateway
from tests.gateway.seller import Job, Seller, answering
from tests.network import eventually

POISON = b'{"prompt": "poison"}'


async def dies_of_poison(job: Job) -> None:
    """A worker whose process crashes as it reads the parameter."""
    if job.request.params.get("prompt") == "poison":
        return
    async for unit in job.pictures():
        if POISON in job.controls:
            return
        job.show(unit)


@asynccontextmanager
async def many(count: int = 5) -> AsyncIterator[tuple[list[Seller], Desk]]:
    async with AsyncExitStack() as stack:
        sellers = [
            await stack.enter_async_context(Seller(dies_of_poison).running()) for _ in range(count)
        ]
        desk = await stack.enter_async_context(gateway(*sellers))
        await stack.enter_async_context(desk.filming(params='{"prompt":"good"}'))
        await desk.live_at(sellers[0])
        yield sellers, desk


def codes(desk: Desk) -> list[str]:
    return [caution.code for caution in desk.stream.warnings]


async def test_two_workers_die_of_it_and_no_more() -> None:
    async with many() as (sellers, desk), desk.watching() as viewer:
        await viewer.sees(5)
        await desk.node.update(NAME, POISON)
        await eventually(lambda: codes(desk) == ["params_taken_back"])
        status = await desk.reaches(StreamState.LIVE)
        await viewer.sees(20, after=time.monotonic())
        assert status.params == {"prompt": "good"}
        assert desk.stream.swaps == 2
        jobs = [job for seller in sellers for job in seller.jobs]
        assert len(jobs) == 3
        assert [job.request.params["prompt"] for job in jobs].count("poison") == 1
        assert POISON not in jobs[-1].controls

        # The next change is a change like any other.
        assert await desk.node.update(NAME, b'{"seed": 2}') == {"prompt": "good", "seed": 2}
        assert codes(desk) == []
        await viewer.sees(10, after=time.monotonic())
        assert desk.stream.swaps == 2


async def test_orchestrators_that_refuse_the_job_for_it_count_too() -> None:
    async with many(3) as (sellers, desk):
        for seller in sellers[1:]:
            seller.refuse = answering(400, "prompt: not this one")
        await desk.node.update(NAME, POISON)
        await eventually(lambda: codes(desk) == ["params_taken_back"])
        await desk.live_at(sellers[0])
        assert desk.stream.params == {"prompt": "good"}
        assert sum(len(seller.posts) for seller in sellers[1:]) <= 2


@pytest.mark.parametrize("update", [b'{"seed": 1}', b'{"prompt": "better"}'])
async def test_a_change_during_which_one_orchestrator_dies_is_kept(update: bytes) -> None:
    dying = Seller()
    async with AsyncExitStack() as life, Seller().running() as good:
        await life.enter_async_context(dying.running())
        async with gateway(dying, good) as desk, desk.filming(params='{"prompt":"good"}'):
            await desk.live_at(dying)
            changed = await desk.node.update(NAME, update)
            await life.aclose()
            await desk.live_at(good)
            assert good.posts[0]["params"] == changed == desk.stream.params
            assert codes(desk) == []
