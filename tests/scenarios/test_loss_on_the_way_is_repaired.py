"""Streamer and viewer on bad links: what is lost is sent again, and the picture stays whole."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path

from relay.cli import clip
from tests.live import PURE, publishing, reaches, status, watching
from tests.lossy import BadLink, receive_over, send_over
from tests.network import Network

NAME = "cam"
LOSS = 0.03
JITTER = 0.012
SECONDS = 6.0


async def test_three_percent_lost_on_either_side(tmp_path: Path) -> None:
    up, down = BadLink(1, loss=LOSS, jitter=JITTER), BadLink(2, loss=LOSS, jitter=JITTER)
    async with Network.running(tmp_path) as network:
        async with (
            publishing(network.whip(NAME), model="passthrough") as whip,
            watching(network.whep(NAME), PURE) as viewer,
        ):
            await viewer.sees(15)
            await reaches(network.url, NAME, "live")
            assert viewer.client is not None
            send_over(whip.peer, up)
            receive_over(viewer.client.peer, down)
            began = time.monotonic()
            await asyncio.sleep(SECONDS)
            ended = time.monotonic()
            asked = viewer.client.statistics().nacks
            told = await status(network.url, NAME)
    assert up.lost > 5
    assert down.lost > 5
    assert asked >= down.lost / 2
    assert told["input"]["lost"] >= up.lost / 2
    shown = [
        number
        for arrived, image in viewer.pictures(since=began)
        if arrived <= ended and (number := clip.read(image)) is not None
    ]
    # Nothing is shown twice or out of its order, and nearly everything is shown.
    steps = [(b - a) % (8 * clip.FPS) for a, b in pairwise(shown)]
    assert all(0 < step < clip.FPS for step in steps)
    assert len(shown) >= 0.9 * SECONDS * clip.FPS
    assert viewer.gap(began) < 3.0
