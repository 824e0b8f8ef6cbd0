"""Who will not wait for the streams to end asks twice; viewers and publishers are told even so."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from tests.live import publishing, reaches, watching
from tests.network import FREE_PORTS, Network, Program, eventually

NAME = "cam"


async def test_the_second_signal_ends_the_waiting_and_nothing_else(tmp_path: Path) -> None:
    async with Network.running(tmp_path) as network:
        settings = {
            **{key: value for key, value in FREE_PORTS.items() if key.startswith("gateway.")},
            "gateway.orchestrators": [network.up.ready["orchestrator"]["url"]],
            "gateway.drain_timeout": 3600,
        }
        gateway = await Program.start("gateway", tmp_path, settings, name="alone")
        try:
            async with (
                publishing(f"{gateway.url}/whip/{NAME}", model="echo"),
                watching(f"{gateway.url}/whep/{NAME}") as viewer,
            ):
                await viewer.sees(10)
                await reaches(gateway.url, NAME, "live")
                assert viewer.client is not None
                gateway.send(signal.SIGTERM)
                await eventually(lambda: "draining for at most 3600 s" in gateway.said(), 15)
                gateway.send(signal.SIGTERM)
                # Its own doubts would come many seconds later.
                ended = await asyncio.wait_for(viewer.client.wait_closed(), 7)
                assert ended == "closed by the peer"
                assert await viewer.client.last_word() == "the gateway is going away"
                assert await gateway.wait() == 0, gateway.said()
                assert "asked again: what runs is not waited for" in gateway.said()
        finally:
            await gateway.stop()
