"""How long a person waits: to connect, to see, to see a change, to see again, to start.

One network with two workers' slots, and clients of our own: a publisher and a viewer
connect; viewers come to a live stream of ``passthrough`` at any moment between its key
frames; a parameter changes; the process that does a job is killed, and stopped; a network
is started again and ended. Each is held against the bar that the product has for it, and
the first picture also against what a viewer waits who has to wait for the next key frame.
Arrivals are noted as they happen and pictures are looked at when all is over, so that
nothing but the sending and the receiving runs beside what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np
import psutil
import uvloop

from bench.report import report
from bench.source import make_clip
from relay.cli import clip
from relay.cli.network import running_network
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.client import WhipClient
from tests.live import LOOPBACK, Viewer, publishing, status, watching
from tests.network import eventually

CLIP_SECONDS: Final = 8
SLOTS: Final = 2
PUBLISHERS: Final = 8
VIEWERS: Final = 12
CHANGES: Final = 10
CAUGHT_UP: Final = 0.02
"""Seconds behind a viewer who was there before, from which on a new one sees what happens now."""
BLOWS: Final = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}

BARS: Final[Mapping[str, float]] = {
    "whip_connected_ms": 100,
    "whep_connected_ms": 100,
    "first_picture_ms": 300,
    "change_ms": 300,
    "killed_picture_gap_ms": 5000,
    "killed_told_ms": 1000,
    "stopped_picture_gap_ms": 5000,
    "stopped_told_ms": 1000,
    "start_ms": 5000,
    "end_ms": 3000,
}
"""Milliseconds. What has no bar is told beside them."""


class Found:
    """Milliseconds by what they are of."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def add(self, name: str, seconds: float) -> None:
        self.values.setdefault(name, []).append(seconds * 1000)

    def say(self, *names: str) -> None:
        for name in names:
            values = self.values[name]
            bar = f"   (bar {BARS[name]:.0f})" if name in BARS else ""
            print(
                f"  {name:24} median {statistics.median(values):7.1f}"
                f"  {min(values):7.1f} to {max(values):7.1f} ms, n {len(values)}{bar}",
                flush=True,
            )


async def connecting(base: str, found: Found) -> None:
    """From before the offer is made until media can flow, for publishers."""
    for number in range(PUBLISHERS):
        began = time.monotonic()
        whip = await WhipClient.connect(f"{base}/whip/connects-{number}", settings=LOOPBACK)
        found.add("whip_connected_ms", time.monotonic() - began)
        await whip.close()
    found.say("whip_connected_ms")


async def coming(base: str, units: list[AccessUnit], moments: random.Random, found: Found) -> None:
    """Viewers of a live stream, from before their offer until pictures come."""
    whip, whep = f"{base}/whip/comes", f"{base}/whep/comes"
    came: list[Viewer] = []
    async with publishing(whip, units, model="passthrough"), watching(whep) as standing:
        await standing.sees(60)
        for _ in range(VIEWERS):
            await asyncio.sleep(moments.uniform(0.1, 2.1))
            async with watching(whep) as viewer:
                found.add("whep_connected_ms", time.monotonic() - viewer.asked)
                await viewer.sees(1)
                await asyncio.sleep(0.5)
            came.append(viewer)
        await asyncio.sleep(2.1)
    keyframes = [arrived for arrived, unit in standing.video if unit.keyframe]
    shown = {unit.payload: arrived for arrived, unit in standing.video}
    for viewer in came:
        found.add("first_picture_ms", viewer.video[0][0] - viewer.asked)
        live = next(
            arrived
            for arrived, unit in viewer.video
            if arrived - shown.get(unit.payload, 0.0) < CAUGHT_UP
        )
        found.add("live_picture_ms", live - viewer.asked)
        waits = next(arrived for arrived in keyframes if arrived > viewer.asked)
        found.add("next_keyframe_ms", waits - viewer.asked)
    found.say("whep_connected_ms", "first_picture_ms", "live_picture_ms", "next_keyframe_ms")


async def changing(
    base: str, units: list[AccessUnit], moments: random.Random, found: Found
) -> None:
    """From before the request until the first changed picture has arrived."""
    asked: list[tuple[float, bool]] = []
    async with (
        publishing(f"{base}/whip/changes", units, model="effects"),
        watching(f"{base}/whep/changes") as viewer,
        aiohttp.ClientSession() as http,
    ):
        await viewer.sees(60)
        for number in range(CHANGES):
            negative = number % 2 == 0
            body = {"effect": "negative" if negative else "none"}
            asked.append((time.monotonic(), negative))
            async with http.patch(f"{base}/v1/streams/changes", json=body) as answer:
                answer.raise_for_status()
            found.add("change_answered_ms", time.monotonic() - asked[-1][0])
            await asyncio.sleep(moments.uniform(0.7, 1.0))
    pictures = await asyncio.to_thread(
        lambda: [(arrived, is_negative(image)) for arrived, image in viewer.pictures()]
    )
    for began, negative in asked:
        shown = next(at for at, state in pictures if at > began and state is negative)
        found.add("change_ms", shown - began)
    found.say("change_answered_ms", "change_ms")


def is_negative(image: np.ndarray[Any, Any]) -> bool:
    """The clip's first cell is white at the top; the effect shows it black."""
    height, width = image.shape[:2]
    return float(image[: int(height * clip.STRIP / 3), : width // clip.CELLS // 2].mean()) < 128


async def losing(
    ready: Mapping[str, Any], units: list[AccessUnit], rounds: int, found: Found
) -> None:
    """Blows to the process that does the job, all before the eyes of one viewer."""
    base = ready["gateway"]["url"]
    async with (
        publishing(f"{base}/whip/loses", units, model="passthrough"),
        watching(f"{base}/whep/loses") as viewer,
    ):
        await viewer.sees(30)
        for name, blow in BLOWS.items():
            for _ in range(rounds):
                await eventually(lambda: _spare(ready["worker"]["url"]), 20)
                slot = await _working(ready["worker"]["pid"])
                hit = time.monotonic()
                slot.send_signal(blow)
                found.add(f"{name}_told_ms", await _reaches(base, "switching") - hit)
                again = await _reaches(base, "live")
                await viewer.sees(30, after=again)
                found.add(f"{name}_picture_gap_ms", viewer.gap(hit))
                found.add(f"{name}_sound_gap_ms", viewer.gap(hit, audio=True))
            found.say(f"{name}_told_ms", f"{name}_picture_gap_ms", f"{name}_sound_gap_ms")


async def _spare(worker: str) -> bool:
    """Whether all but one slot are warm and free."""
    async with aiohttp.ClientSession() as http, http.get(f"{worker}/health") as answer:
        slots = (await answer.json())["slots"]
        return bool(slots["total"] == SLOTS and slots["free"] == SLOTS - 1)


async def _working(worker: int) -> psutil.Process:
    """Of the warm slots, the one that uses the processor."""
    slots = psutil.Process(worker).children()
    before = [slot.cpu_times().user for slot in slots]
    await asyncio.sleep(0.7)
    used = [slot.cpu_times().user - start for slot, start in zip(slots, before, strict=True)]
    return slots[used.index(max(used))]


async def _reaches(base: str, state: str) -> float:
    """When the stream was first told to be in this state."""

    async def there() -> float | None:
        now = await status(base, "loses")
        return time.monotonic() if now["state"] == state else None

    return float(await eventually(there, 20, every=0.01))


async def starting(folder: Path, rounds: int, found: Found) -> None:
    """A network that was started before, until it is ready; and then its end."""
    settings = {"orchestrator.data_dir": str(folder / "data"), "worker.slots": SLOTS}
    for number in range(rounds + 1):
        began = time.monotonic()
        async with running_network(folder / "start.log", settings):
            ready = time.monotonic()
        if number > 0:
            found.add("start_ms", ready - began)
            found.add("end_ms", time.monotonic() - ready)
    found.say("start_ms", "end_ms")


async def measure(rounds: int, seed: int) -> int:
    print(f"making {CLIP_SECONDS} s of 720p30 at 2 Mbit/s ...", flush=True)
    units = await asyncio.to_thread(make_clip, CLIP_SECONDS, audio=True)
    moments, found = random.Random(seed), Found()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {"worker.slots": SLOTS, "orchestrator.data_dir": str(folder / "node")}
        async with running_network(folder / "log", settings) as ready:
            base = ready["gateway"]["url"]
            say_load("a publisher connects")
            await connecting(base, found)
            say_load("a viewer comes")
            await coming(base, units, moments, found)
            say_load("a parameter changes")
            await changing(base, units, moments, found)
            say_load("the process that does the job is lost")
            await losing(ready, units, rounds, found)
        say_load("a network starts again")
        await starting(folder, rounds, found)
    return _report(found.values)


def say_load(title: str) -> None:
    print(f"{title} (load {os.getloadavg()[0]:.2f})", flush=True)


def _report(values: Mapping[str, Sequence[float]]) -> int:
    medians = {name: statistics.median(told) for name, told in values.items()}
    nearest = max(BARS, key=lambda name: medians[name] / BARS[name])
    bar = BARS[nearest]
    figures = {
        name: {"median": round(medians[name], 1), "max": round(max(told), 1)}
        for name, told in values.items()
    }
    return report(
        "moments",
        bars={f"{name}: {bar:g}": medians[name] <= bar for name, bar in BARS.items()},
        ratio=medians[nearest] / bar,
        against=f"the product's bar that is nearest: {nearest} {bar:.0f}",
        samples=[value / bar for value in values[nearest]],
        first_picture_over_next_keyframe=round(
            medians["first_picture_ms"] / medians["next_keyframe_ms"], 4
        ),
        **figures,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each blow, and of starts")
    parser.add_argument("--seed", type=int, default=1, help="of when viewers and changes come")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(measure(arguments.rounds, arguments.seed)))


if __name__ == "__main__":
    main()
