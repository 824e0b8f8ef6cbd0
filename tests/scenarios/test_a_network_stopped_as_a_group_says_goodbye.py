"""Whoever stops the group of all its processes, as systemd does, lets it say goodbye."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import psutil

from tests.live import publishing, reaches, watching
from tests.network import Network

NAME = "cam"


async def test_viewers_are_told_and_nothing_is_left(tmp_path: Path) -> None:
    async with Network.running(tmp_path) as network:
        async with (
            publishing(network.whip(NAME), model="echo"),
            watching(network.whep(NAME)) as viewer,
        ):
            await viewer.sees(10)
            await reaches(network.url, NAME, "live")
            assert viewer.client is not None
            up = psutil.Process(network.up.pid)
            group = [up, *up.children(recursive=True)]
            for process in reversed(group):  # the roles first
                process.send_signal(signal.SIGTERM)
            # Its own doubts would come many seconds later.
            assert await asyncio.wait_for(viewer.client.wait_closed(), 7) == "closed by the peer"
            assert await network.up.wait() == 0, network.up.said()
        assert not [process for process in group if process.is_running()]
