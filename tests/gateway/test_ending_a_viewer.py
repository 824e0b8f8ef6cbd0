"""A viewer is ended from outside, by the id that the stream's list has."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from tests.gateway.desk import NAME, gateway
from tests.live import LOOPBACK
from tests.network import eventually

TWO = LOOPBACK.model_copy(update={"egress_processes": 2})


@pytest.mark.parametrize("process", [0, 1])
async def test_it_is_told_why_and_the_others_stay(process: int) -> None:
    async with (
        gateway(webrtc=TWO) as desk,
        aiohttp.ClientSession(f"{desk.server.url}/") as http,
        desk.filming(),
    ):
        egress = desk.node._egress
        if process:
            egress.start(1)
            await eventually(lambda: len(egress._ready()) == 1, every=0.01)
        egress._choose = lambda places: len(places) - 1
        async with desk.watching() as one, desk.watching() as other:
            assert one.client is not None
            assert other.client is not None
            listed = await _viewers(http)
            assert [given["process"] for given in listed] == [process, process]
            mine = f"v1/viewers/{listed[0]['id']}"
            async with http.delete(mine) as answer:
                assert answer.status == 204
            assert await one.client.wait_closed() == "closed by the peer"
            assert await one.client.last_word() == "ended by the operator"
            [left] = await _viewers(http)
            assert left["id"] == listed[1]["id"]
            assert not other.client._session.is_closed
            async with http.delete(mine) as answer:
                assert answer.status == 404


async def test_a_publisher_is_no_viewer() -> None:
    async with gateway() as desk, aiohttp.ClientSession() as http, desk.filming() as camera:
        location = str(camera.whip._link.resource.location)
        secret = location.rpartition("/")[2]
        for name in (secret, secret[:8]):
            async with http.delete(f"{desk.server.url}/v1/viewers/{name}") as answer:
                assert answer.status == 404
        assert desk.stream.input is not None


async def _viewers(http: aiohttp.ClientSession) -> list[dict[str, Any]]:
    async with http.get(f"v1/streams/{NAME}/viewers") as answer:
        found: list[dict[str, Any]] = (await answer.json())["viewers"]
        return found
