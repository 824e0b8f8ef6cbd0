"""Orchestrators that fail their gateway, each beside a good one: the stream goes on there,
and the viewer's picture keeps one clock.

One that accepts and never sends a picture, stops, takes no input or closes a channel is in
tests/gateway/test_live.py.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from relay.gateway.status import StreamState
from tests.gateway.desk import gateway
from tests.gateway.seller import Job, Seller, answering
from tests.live import Viewer
from tests.media.samples import capture
from tests.network import eventually


def keeps_one_clock(viewer: Viewer) -> None:
    stamps = [unit.pts for _, unit in viewer.video]
    assert stamps == sorted(set(stamps))
    assert stamps[-1] - stamps[0] < 60 * 90_000


async def cut(request: web.Request) -> web.StreamResponse:
    """The process dies with the job's request in its hands."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def test_an_orchestrator_that_dies_at_0_s() -> None:
    async with (
        Seller().running() as dying,
        Seller().running() as good,
        gateway(dying, good) as desk,
    ):
        dying.refuse = cut
        async with desk.filming(), desk.watching() as viewer:
            await desk.live_at(good)
            await viewer.sees(10)
            assert desk.stream.swaps == 0, "it never had the job"


@pytest.mark.parametrize("seconds", [0.1, 1.0, 30.0], ids=["just begun", "1 s", "30 s"])
async def test_an_orchestrator_that_dies_in_mid_stream(seconds: float) -> None:
    dying = Seller()
    async with AsyncExitStack() as life, Seller().running() as good:
        await life.enter_async_context(dying.running())
        async with gateway(dying, good) as desk, desk.filming(), desk.watching() as viewer:
            await desk.live_at(dying)
            await asyncio.sleep(seconds)
            await life.aclose()  # its port is closed and every connection cut
            died = time.monotonic()
            await desk.live_at(good)
            await viewer.sees(10, after=died)
            assert viewer.gap(died) < 3.0
            assert desk.stream.swaps == 1
            keeps_one_clock(viewer)


async def test_an_orchestrator_that_lies_about_its_capacity() -> None:
    async with (
        Seller().running() as liar,
        Seller().running() as good,
        gateway(liar, good) as desk,
    ):
        liar.refuse = answering(503, "insufficient capacity\n")
        async with desk.filming():
            await desk.live_at(good)
            assert len(liar.posts) == 1
        async with desk.filming():
            # It said no lately, so the other one comes first now.
            await desk.live_at(good)
            assert len(liar.posts) <= 2


async def test_one_that_lies_and_is_alone_is_not_asked_without_end() -> None:
    async with Seller().running() as liar, gateway(liar) as desk:
        liar.refuse = answering(503, "insufficient capacity\n")
        async with desk.filming():
            await desk.reaches(StreamState.FAILED, "orchestrator_capped")
            before = len(liar.posts)
            await asyncio.sleep(1.0)
            assert 1 <= len(liar.posts) - before <= 8


async def another_streams(job: Job) -> None:
    """Two recorded segments of a stream that is nobody's here, and then nothing."""
    pictures = aiter(job.pictures())
    await anext(pictures)
    for number in range(2):
        writer = job.output.begin()
        writer.write(capture(f"input-{number}"))
        writer.end()
    async for _ in pictures:
        pass


async def another_streams_between(job: Job) -> None:
    """The job's own pictures, with a segment of another stream after every tenth."""
    count = 0
    async for unit in job.pictures():
        job.show(unit)
        count += 1
        if count % 10 == 0 and count < 40:
            writer = job.output.begin()
            writer.write(capture("input-1"))
            writer.end()
        if count >= 60:
            break
    async for _ in job.pictures():
        pass


@pytest.mark.parametrize("work", [another_streams, another_streams_between])
async def test_an_orchestrator_that_sends_another_streams_data(work: object) -> None:
    async with (
        Seller(work).running() as mixed,  # type: ignore[arg-type]
        Seller().running() as good,
        gateway(mixed, good) as desk,
        desk.filming(),
        desk.watching() as viewer,
    ):
        await desk.live_at(good)
        moved = time.monotonic()
        assert desk.stream.swaps == 1
        await viewer.sees(15, after=moved)
        assert desk.stream.swaps == 1, "what it sent ahead of time hides nothing of the next"
        keeps_one_clock(viewer)


async def test_an_orchestrator_that_answers_with_addresses_of_no_use() -> None:
    async with (
        Seller().running() as odd,
        Seller().running() as good,
        gateway(odd, good) as desk,
    ):
        odd.refuse = answering(
            200,
            '{"publish_url": "ftp://x/in", "subscribe_url": "out", "control_url": "",'
            ' "events_url": "http://", "manifest_id": "m"}',
            "application/json",
        )
        async with desk.filming():
            await desk.live_at(good)
            await eventually(lambda: desk.stream.state is StreamState.LIVE)
