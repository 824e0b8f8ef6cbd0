"""Streamer and viewer on bad links: what is lost is sent again, and the picture stays whole."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import aiohttp

from relay.cli import clip
from relay.protocols.webrtc.client import WhipClient
from relay.protocols.webrtc.peer import Peer
from tests.live import PURE, publishing, reaches, status, watching
from tests.lossy import BadLink, receive_over, send_over
from tests.network import Network

NAME = "cam"
LOSS = 0.03
JITTER = 0.012
SECONDS = 6.0
WINDOWS = 3
STALL = 0.1


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


@dataclass
class Window:
    """What was sent, came whole, came back and was shown in some seconds with loss."""

    filmed: int
    whole: float
    given: float
    began: float
    ended: float
    stood_still: float
    """Seconds for which this process, publisher and viewer both, did nothing at a stretch."""


async def film(network: Network, whip: WhipClient) -> Window:
    sent = noted(whip.peer)
    before = await counted(network.url)
    sent.clear()
    began = at = time.monotonic()
    stood_still = 0.0
    while at < began + SECONDS:
        await asyncio.sleep(0.01)
        stood_still, at = max(stood_still, time.monotonic() - at), time.monotonic()
    filmed = len(sent)
    after = await counted(network.url)
    whole, given = (later - earlier for earlier, later in zip(before, after, strict=True))
    return Window(filmed, whole, given, began, at, stood_still)


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
            for _ in range(WINDOWS):  # who stands still sends nothing again in time
                window = await film(network, whip)
                if window.stood_still < STALL:
                    break
            asked = viewer.client.statistics().nacks
            told = await status(network.url, NAME)
    assert up.lost > 5
    assert down.lost > 5
    assert asked >= down.lost / 2
    assert told["input"]["lost"] >= up.lost / 2
    shown = [
        number
        for arrived, image in viewer.pictures(since=window.began)
        if arrived <= window.ended and (number := clip.read(image)) is not None
    ]
    # Nothing is shown twice or out of its order, and nearly everything is shown.
    steps = [(b - a) % (8 * clip.FPS) for a, b in pairwise(shown)]
    assert all(0 < step < clip.FPS for step in steps)
    # Whatever the worker leaves out on a slow machine was not lost on the way.
    missing = (window.filmed - window.whole) + (window.given - len(shown))
    assert missing <= 0.1 * window.filmed, (window, len(shown))
    assert viewer.gap(window.began) < 3.0
