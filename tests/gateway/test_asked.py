"""What a publisher and an app ask for on the network's paths reaches the job."""

from __future__ import annotations

import json

import aiohttp
import pytest

from relay.gateway.status import StreamState
from tests.gateway.desk import NAME, Desk, gateway
from tests.gateway.seller import Seller
from tests.network import eventually


async def update(desk: Desk, **params: object) -> int:
    url = f"{desk.server.url}/live/video-to-video/{NAME}/update"
    async with aiohttp.ClientSession() as http, http.post(url, json=params) as answer:
        return answer.status


async def test_a_publisher_says_whose_orchestrator_it_wants() -> None:
    async with (
        Seller().running() as first,
        Seller().running() as second,
        gateway(first, second) as desk,
    ):
        async with desk.filming(orchestrator=second.url.rpartition(":")[2]):
            await desk.live_at(second)
        assert not first.jobs


async def test_it_waits_rather_than_be_served_by_another() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
        desk.filming(orchestrator="elsewhere.example"),
    ):
        await desk.reaches(StreamState.STARTING, "no_orchestrator")
        assert not seller.jobs


async def test_the_filter_holds_when_the_job_moves() -> None:
    async with (
        Seller().running() as seller,
        Seller().running() as other,
        gateway(other, seller) as desk,
        desk.filming(orchestrator=seller.url),
    ):
        await desk.live_at(seller)
        await seller.jobs[0].close("out")
        await eventually(lambda: len(seller.jobs) == 2)
        await desk.live_at(seller)
        assert not other.jobs


async def test_an_update_before_the_first_picture_is_kept_for_the_job() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
        desk.filming(params=json.dumps({"a": 1, "b": 1})) as camera,
    ):
        camera.paused = True
        assert await update(desk, b=2, c=3) == 200
        assert desk.stream.params == {"a": 1, "b": 2, "c": 3}
        assert not seller.jobs
        camera.paused = False
        await desk.live_at(seller)
        assert seller.jobs[0].request.params == {"a": 1, "b": 2, "c": 3}


async def test_an_update_without_an_orchestrator_is_kept() -> None:
    async with gateway() as desk, desk.filming():
        await desk.reaches(StreamState.STARTING, "no_orchestrator")
        assert await update(desk, a=1) == 200
        assert desk.stream.params == {"a": 1}


@pytest.mark.parametrize("watched", [False, True])
async def test_nobody_to_update_is_the_stock_404(watched: bool) -> None:
    async with gateway() as desk:
        if not watched:
            assert await update(desk, a=1) == 404
            return
        async with desk.watching():
            assert await update(desk, a=1) == 404
