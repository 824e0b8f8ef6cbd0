"""With the key a publisher takes a live name over; without keys only a silent one gives way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from relay.errors import PeerRefused
from relay.protocols.webrtc.client import WhipClient
from tests.live import LOOPBACK, publishing, reaches, watching
from tests.network import Network

NAME = "cam"


async def test_the_same_key_takes_over_and_the_viewer_stays(tmp_path: Path) -> None:
    async with Network.running(tmp_path, gateway__publish_key="sesame") as network:
        url = network.whip(NAME)
        with pytest.raises(PeerRefused, match="401"):
            await WhipClient.connect(url, settings=LOOPBACK)
        async with (
            publishing(url, model="passthrough", token="sesame") as first,
            watching(network.whep(NAME)) as viewer,
        ):
            seen = await viewer.sees(10)
            async with publishing(url, model="passthrough", token="sesame"):
                assert await first.wait_closed()
                await viewer.sees(30, after=seen + 0.5)


async def test_without_keys_a_live_name_is_refused_until_it_is_silent(tmp_path: Path) -> None:
    async with Network.running(tmp_path) as network:
        url = network.whip(NAME)
        async with publishing(url, model="passthrough") as first:
            await reaches(network.url, NAME, "live")
            with pytest.raises(PeerRefused, match="409"):
                await WhipClient.connect(url, settings=LOOPBACK)
            await reaches(network.url, NAME, "live")
            first.send = lambda unit: None  # type: ignore[method-assign]
            first._link.peers.udp.close()
            await asyncio.sleep(1.3)
            async with publishing(url, model="passthrough"):
                await reaches(network.url, NAME, "live")
