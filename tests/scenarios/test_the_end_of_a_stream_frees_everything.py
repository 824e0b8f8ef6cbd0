"""DELETE, a vanished publisher, an operator's stop: job ended, capacity back, channels gone."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.live import publishing, reaches, watching
from tests.network import Network, eventually

NAME = "cam"


async def free_slots(network: Network) -> int:
    url = network.up.ready["worker"]["url"]
    async with aiohttp.ClientSession() as http, http.get(f"{url}/health") as answer:
        body: dict[str, Any] = await answer.json()
        return int(body["slots"]["free"])


async def open_jobs(network: Network) -> int:
    url = network.up.ready["orchestrator"]["url"]
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{url}/relay/status", ssl=False) as answer,
    ):
        body: dict[str, Any] = await answer.json()
        return len(body["jobs"])


async def all_is_free(network: Network) -> None:
    async def free() -> bool:
        return await free_slots(network) == 1 and await open_jobs(network) == 0

    await eventually(free, 15)


@pytest.mark.parametrize("how", ["delete", "vanish", "stop"])
async def test_capacity_is_back(network: Network, how: str) -> None:
    async with publishing(network.whip(how), model="passthrough") as whip:
        await reaches(network.url, how, "live")
        assert await free_slots(network) == 0
        assert await open_jobs(network) == 1
        if how == "vanish":
            # The socket is gone without a word: no DELETE, no goodbye of DTLS.
            whip._link.peers.udp.close()
        elif how == "stop":
            async with (
                aiohttp.ClientSession() as http,
                http.delete(f"{network.url}/v1/streams/{how}") as answer,
            ):
                assert answer.status in {200, 204}
        if how != "delete":
            await all_is_free(network)
    await all_is_free(network)


async def test_sigterm_lets_streams_end_and_takes_no_new_ones(tmp_path: Path) -> None:
    async with Network.running(tmp_path, gateway__drain_timeout=4) as network:
        gateway = network.process("gateway")
        assert gateway is not None
        async with (
            publishing(network.whip(NAME), model="passthrough") as whip,
            watching(network.whep(NAME)) as viewer,
        ):
            await viewer.sees(10)
            asked = time.monotonic()
            network.up.send(signal.SIGTERM)
            assert await whip.wait_closed()
            assert viewer.client is not None
            assert await viewer.client.wait_closed()
            assert await network.up.wait(5) == 0
            # All has ended within 3 s, whatever a role alone would let its streams have.
            assert time.monotonic() - asked < 5
        await asyncio.sleep(0.2)
        assert not gateway.is_running()
