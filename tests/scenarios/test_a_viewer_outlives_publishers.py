"""A viewer may come before the publisher, and stays when the publisher leaves and returns."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path

from relay.media.unit import VIDEO_CLOCK
from relay.protocols.webrtc.client import WhepClient
from relay.protocols.webrtc.rtp import parse_rtp
from tests.live import LOOPBACK, Viewer, publishing, reaches, small_clip, watching
from tests.network import Network


async def test_the_connection_its_numbers_and_its_clock_go_on(network: Network) -> None:
    headers: list[tuple[int, int, int]] = []

    def tap(data: bytes, _: float) -> None:
        packet = parse_rtp(data)
        headers.append((packet.ssrc, packet.sequence, packet.timestamp))

    viewer = Viewer()
    client = await WhepClient.connect(
        network.whep("back"), on_unit=viewer.unit, on_rtp=tap, audio=False, settings=LOOPBACK
    )
    try:
        assert not headers
        async with publishing(network.whip("back"), model="passthrough"):
            await viewer.sees(30)
        await reaches(network.url, "back", "waiting")
        returned = time.monotonic()
        async with publishing(network.whip("back"), model="passthrough"):
            await viewer.sees(30, after=returned)
    finally:
        await client.close()
    sources = {ssrc for ssrc, _, _ in headers}
    assert len(sources) == 1, "one SSRC throughout"
    sequences = [sequence for _, sequence, _ in headers]
    steps = [(b - a) & 0xFFFF for a, b in pairwise(sequences)]
    assert set(steps) == {1}, "the sequence numbers go on without a gap"
    times = [timestamp for _, _, timestamp in headers]
    forward = [(b - a) & 0xFFFFFFFF for a, b in pairwise(times)]
    assert all(step < 1 << 31 for step in forward), "the clock never goes back"


async def test_a_late_viewer_sees_a_picture_at_once(network: Network) -> None:
    async with publishing(network.whip("late"), model="passthrough"):
        await reaches(network.url, "late", "live")
        async with watching(network.whep("late")) as first, watching(network.whep("late")) as late:
            assert await first.sees(1) - first.asked < 2
            assert await late.sees(1) - late.asked < 2
            assert next(late.pictures())[1].shape == (360, 640, 3)


async def test_a_viewer_of_nothing_is_let_go(tmp_path: Path) -> None:
    async with Network.running(tmp_path, gateway__viewer_wait=1.5) as network:
        async with watching(network.whep("nobody")) as viewer:
            assert viewer.client is not None
            assert await viewer.client.wait_closed()


async def test_the_picture_may_turn_while_it_is_live(network: Network) -> None:
    part = 2 * VIDEO_CLOCK
    upright = [replace(unit, pts=unit.pts + part) for unit in small_clip(360, 640)]
    units = [unit for unit in small_clip() if unit.pts < part]
    units += [unit for unit in upright if unit.pts < 2 * part]
    async with (
        publishing(network.whip("turning"), units, model="passthrough"),
        watching(network.whep("turning")) as viewer,
    ):
        await viewer.sees(200)
    shapes = [image.shape for _, image in viewer.pictures()]
    # Whichever way round the camera is when the viewer comes, it sees it turn twice.
    turns = [shape for shape, _ in groupby(shapes)]
    assert len(turns) >= 3
    assert set(turns) == {(360, 640, 3), (640, 360, 3)}
    assert viewer.gap(0.0) < 3.0
