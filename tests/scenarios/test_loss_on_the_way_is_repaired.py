"""Streamer and viewer on bad links: what is lost is sent again, and the picture stays whole."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path

import aiohttp

from relay.cli import clip
from relay.protocols.webrtc.peer import Peer
from tests.live import PURE, publishing, reaches, status, watching
from tests.lossy import BadLink, receive_over, send_over
from tests.network import Network

NAME = "cam"
LOSS = 0.03
JITTER = 0.012
SECONDS = 6.0


def noted(peer: Peer) -> set[bytes]:
    """The times of the pictures that the connected peer sends from here on, as it writes them."""
    assert peer.video is not None
    transmit, ssrc = peer.transmit, peer.video.ssrc.to_bytes(4, "big")
    seen: set[bytes] = set()

    def send(data: bytes) -> None:
        if data[8:12] == ssrc and not 191 < data[1] < 224:
            seen.add(data[4:8])
        transmit(data)

    peer.transmit = send
    return seen


async def counted(base: str) -> tuple[float, float]:
    """Pictures that the gateway has got whole, and that it has got back."""
    await status(base, NAME)  # who asks for it has it brought up to date
    async with aiohttp.ClientSession() as http, http.get(f"{base}/metrics") as answer:
        assert answer.status == 200
        lines = dict(line.rsplit(" ", 1) for line in (await answer.text()).splitlines() if line)
    ours, back = (
        float(lines[f'relay_media_frames_total{{path="{path}"}}'])
        for path in ("ingest", "job_output")
    )
    return ours, back


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
            sent = noted(whip.peer)
            before = await counted(network.url)
            sent.clear()
            began = time.monotonic()
            await asyncio.sleep(SECONDS)
            ended, filmed = time.monotonic(), len(sent)
            after = await counted(network.url)
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
    # Whatever the worker leaves out on a slow machine was not lost on the way.
    whole, given = (later - earlier for earlier, later in zip(before, after, strict=True))
    missing = (filmed - whole) + (given - len(shown))
    assert missing <= 0.1 * filmed, (filmed, whole, given, len(shown))
    assert viewer.gap(began) < 3.0
