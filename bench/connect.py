"""How long it takes to come in, and what it costs those who are there.

Viewers of the bench's own join a live stream of our whole network (``echo``), one by one and
a hundred at once, and the same viewers join plain aiortc. Some nominate with their first
check, as Chromium and libjuice do; some as pion does, when the server's own check comes, or at
a tick of 200 ms. Viewers in another process, there before, tell what they missed meanwhile.
Chromium watches with the studio's own player; where there is none, that is not run. Times count
from the POST of the offer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import uvloop

from bench.chromium import Pages
from bench.joins.joiner import Joiner, Moments
from bench.report import percentile, report
from bench.servers import LOOPBACK, cpu_seconds, server
from bench.source import add_sound, has_sound, make_clip, words_of
from bench.streams import publishing
from relay.cli.network import running_network
from relay.media.unit import VIDEO_CLOCK, AccessUnit
from relay.protocols.webrtc.certificate import Certificate
from relay.protocols.webrtc.client import WhepClient
from tests.browser import CHROMIUM, chromium, tab

QUIET: Final = 2.0
"""Seconds before joins in which the standing viewers show what is usual."""
SETTLE: Final = 1.0
READY: Final = 60.0
"""Seconds that the standing viewers have until pictures come; making the clip is part of it."""
CATCH_UP: Final = 0.5
"""Seconds after the last of many in which the group of pictures still goes out to them."""
FRAME: Final = VIDEO_CLOCK / 30
BARS: Final[Mapping[str, float]] = {
    "first_ms": 30,
    "patient_first_ms": 30,
    "chromium_picture_ms": 150,
    "whip_output_ms": 60,
    "join_cpu_ms": 5,
    "burst_cpu_ms": 5,
    "burst_last_ms": 1000,
    "missed": 0,
    "late_ms": 30,
}
"""What each may be at most; medians, but for ``missed`` and ``late_ms``: the worst of all.
``burst_cpu_ms`` is a join's too, with what each of a hundred is sent at first."""


@dataclass(slots=True)
class Found:
    """Figures of one server, by what they are of; milliseconds but for ``missed``."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return statistics.median(self.values[name])

    def worst(self, name: str) -> float:
        return max(self.values[name])

    def held(self, name: str) -> float:
        """What is held against the bar."""
        return self.worst(name) if name in ("missed", "late_ms") else self.median(name)

    def say(self, title: str, *names: str) -> None:
        for name in names:
            values = self.values[name]
            bar = f"   (bar {BARS[name]:.0f})" if name in BARS else ""
            print(
                f"  {title:8} {name:24} median {statistics.median(values):8.1f}"
                f"  {min(values):8.1f} to {max(values):8.1f}, n {len(values)}{bar}",
                flush=True,
            )


@dataclass(frozen=True, slots=True)
class Target:
    """A server, and where its live stream is."""

    title: str
    whep: str
    whip: str | None  # where the stream is published; None: the server makes it
    process: psutil.Process
    sound: bool


async def join(target: Target, *, patient: bool) -> Moments:
    joiner = Joiner(Certificate(), patient=patient, sound=target.sound)
    try:
        return await joiner.come(target.whep)
    finally:
        joiner.leave()


async def one_by_one(target: Target, number: int, found: Found) -> None:
    """Joins with pauses; what they cost is told without what the stream costs anyway."""
    for patient in (False, True):
        prefix = "patient_" if patient else ""
        for _ in range(number):
            moments = await join(target, patient=patient)
            for name in ("answered", "checked", "connected", "first"):
                found.add(f"{prefix}{name}_ms", getattr(moments, name) * 1000)
            await asyncio.sleep(0.05)
    names = ("answered_ms", "connected_ms", "first_ms")
    found.say(target.title, *names, *(f"patient_{name}" for name in names))


async def cost(target: Target, number: int, found: Found) -> None:
    """CPU of a join and of its leaving, less what the same time costs without joins."""
    for _ in range(3):
        idle, length = cpu_seconds(target.process), time.monotonic()
        await asyncio.sleep(SETTLE)
        share = (cpu_seconds(target.process) - idle) / (time.monotonic() - length)
        before, began = cpu_seconds(target.process), time.monotonic()
        for _ in range(number):
            await join(target, patient=False)
        await asyncio.sleep(0.2)
        used = cpu_seconds(target.process) - before - share * (time.monotonic() - began)
        found.add("join_cpu_ms", used / number * 1000)
    found.say(target.title, "join_cpu_ms")


@asynccontextmanager
async def standing(target: Target) -> AsyncIterator[dict[str, Any]]:
    """Viewers who are there all the while; when the block has ended, what they noted."""
    words = [target.whep, *(("--whip", target.whip) if target.whip else ())]
    words += words_of(target.sound)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.joins.standing", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 26,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    told: dict[str, Any] = {}
    try:
        async with asyncio.timeout(READY):
            ready = await process.stdout.readline()
        if ready.strip() != b"ready":
            raise RuntimeError(f"no picture came from {target.whep}")
        yield told
        process.stdin.close()
        told.update(json.loads(await process.stdout.readline()))
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def crowd(target: Target, number: int, found: Found) -> tuple[float, float, float]:
    """Many at once; returns when the quiet time began, when they came, when it was over."""
    certificate = Certificate()
    joiners = [Joiner(certificate, patient=False, sound=target.sound) for _ in range(number)]
    quiet = time.monotonic()
    await asyncio.sleep(QUIET)
    cpu, began = cpu_seconds(target.process), time.monotonic()
    came = await asyncio.gather(*(joiner.come(target.whep) for joiner in joiners))
    ended = max(moments.done for moments in came)
    await asyncio.sleep(CATCH_UP)
    cpu = cpu_seconds(target.process) - cpu
    found.add("burst_last_ms", (ended - began) * 1000)
    found.add("burst_median_ms", statistics.median(m.first for m in came) * 1000)
    found.add("burst_cpu_ms", cpu / number * 1000)
    for joiner in joiners:
        joiner.leave()
    await asyncio.sleep(SETTLE)
    return quiet, began, ended + CATCH_UP


def look(told: dict[str, Any], window: tuple[float, float, float], found: Found) -> None:
    """What the standing viewers missed while others came, and how late the rest was."""
    quiet, began, ended = window
    sent = {pts: at for _, pts, at in told["sent"][0]}
    missed, late = 0, []
    for row in told["came"]:
        if sent:
            shift = _shift(told["sent"][0], row)
            delays = [(at, at - sent[pts - shift]) for _, pts, at in row if pts - shift in sent]
            here = {pts - shift for _, pts, _ in row}
            missed += sum(began <= at <= ended and pts not in here for pts, at in sent.items())
        else:
            delays = [(at, at - pts / VIDEO_CLOCK) for _, pts, at in row]
            times = [pts for _, pts, at in row if began <= at <= ended]
            missed += round((times[-1] - times[0]) / FRAME) + 1 - len(times)
        usual = statistics.median(delay for at, delay in delays if quiet <= at < began)
        late += [(delay - usual) * 1000 for at, delay in delays if began <= at <= ended]
    found.add("missed", missed)
    found.add("late_ms", max(late))
    found.add("late_p99_ms", percentile(late, 0.99))


def _shift(sent: Sequence[tuple[str, int, float]], row: Sequence[tuple[str, int, float]]) -> int:
    """From the publisher's line to the rendition's, by the pictures that came as they left."""
    left: dict[str, list[int]] = {}
    for name, pts, _ in sent:
        left.setdefault(name, []).append(pts)
    shifts = Counter(pts - before for name, pts, _ in row for before in left.get(name, ()))
    return shifts.most_common(1)[0][0]


async def joins(target: Target, number: int, many: int, rounds: int, found: Found) -> None:
    """All that is asked of both servers."""
    async with standing(target) as told:
        await asyncio.sleep(SETTLE)
        await one_by_one(target, number, found)
        await cost(target, number, found)
        windows = [await crowd(target, many, found) for _ in range(rounds)]
    for window in windows:
        look(told, window, found)
    names = ("burst_last_ms", "burst_median_ms", "burst_cpu_ms", "missed", "late_ms")
    found.say(target.title, *names, "late_p99_ms")


async def published(base: str, units: list[AccessUnit], number: int, found: Found) -> None:
    """From a publisher's POST to the first picture of the output at one who waits for it."""
    for turn in range(number):
        name = f"first-{turn}"
        came = asyncio.Event()
        whep = await WhepClient.connect(
            f"{base}/whep/{name}",
            on_unit=partial(_noted, came),
            audio=has_sound(units),
            settings=LOOPBACK,
        )
        began = time.monotonic()
        async with publishing(f"{base}/whip/{name}?pipeline=echo", units):
            found.add("whip_connected_ms", (time.monotonic() - began) * 1000)
            async with asyncio.timeout(10):
                await came.wait()
            found.add("whip_output_ms", (time.monotonic() - began) * 1000)
        await whep.close()
        await asyncio.sleep(0.3)
    found.say("ours", "whip_connected_ms", "whip_output_ms")


def _noted(came: asyncio.Event, unit: AccessUnit) -> None:
    if unit.is_video:
        came.set()


async def browsed(
    ready: Mapping[str, Any], units: list[AccessUnit], number: int, found: Found
) -> None:
    """Chromium's first picture of a live stream; its first connection does not count."""
    base = ready["gateway"]["url"]
    async with (
        publishing(f"{base}/whip/browsed?pipeline=echo", units),
        chromium() as browser,
        tab(browser, ready["studio"]) as viewer,
    ):
        pages = Pages(viewer, viewer)
        await pages.load()
        for turn in range(number + 1):
            moments = await pages.watch("browsed")
            await pages.of_viewer("stop()")
            if turn:
                for name in ("answered", "connected", "picture"):
                    found.add(f"chromium_{name}_ms", moments[name] or 0.0)
    found.say("chromium", *(f"chromium_{n}_ms" for n in ("answered", "connected", "picture")))


async def measure(number: int, many: int, rounds: int, *, sound: bool) -> int:
    units = await asyncio.to_thread(make_clip, audio=sound)
    ours, theirs = Found(), Found()
    print(f"load {os.getloadavg()[0]:.2f}", flush=True)
    async with server("bench.plain", "send") as plain:
        target = Target("aiortc", f"{plain.url}/whep", None, plain.process, sound)
        await joins(target, max(number // 2, 3), many, max(rounds - 2, 1), theirs)
    with tempfile.TemporaryDirectory() as folder:
        async with running_network(Path(folder) / "log", {"worker.slots": 2}) as ready:
            base, process = ready["gateway"]["url"], psutil.Process(ready["gateway"]["pid"])
            whip = f"{base}/whip/joined?pipeline=echo"
            target = Target("ours", f"{base}/whep/joined", whip, process, sound)
            await joins(target, number, many, rounds, ours)
            await published(base, units, 15, ours)
            if shutil.which(CHROMIUM):
                await browsed(ready, units, 5, ours)
            else:
                print(f"  no Chromium ({CHROMIUM})", flush=True)
    print(f"load {os.getloadavg()[0]:.2f}", flush=True)
    return _report(ours, theirs, sound=sound)


def _report(ours: Found, theirs: Found, *, sound: bool) -> int:
    ran = {name: bar for name, bar in BARS.items() if name in ours.values}
    over = {name: ours.held(name) / bar for name, bar in ran.items() if bar}
    failed = [name for name, bar in ran.items() if ours.held(name) > bar]
    for name in failed:
        print(f"  over its bar: {name}, {ours.held(name):.1f} of {BARS[name]:.0f}", flush=True)
    nearest = max(over, key=lambda name: over[name])
    compared = [name for name in theirs.values if name not in ("missed", "checked_ms")]
    return report(
        "connect",
        bars={
            f"{name}: {bar:g}": name not in failed if name in ran else None
            for name, bar in BARS.items()
        },
        ratio=ours.median("first_ms") / theirs.median("first_ms"),
        against="plain aiortc, POST to first packet",
        samples=[value / theirs.median("first_ms") for value in ours.values["first_ms"]],
        sound=sound,
        over_bar=failed,
        nearest_bar=f"{nearest}: {over[nearest]:.2f} of it",
        ratios={
            name: round(ours.median(name) / theirs.median(name), 3)
            for name in compared
            if theirs.median(name) > 0
        },
        ours={name: _figures(values) for name, values in ours.values.items()},
        aiortc={name: _figures(values) for name, values in theirs.values.items()},
    )


def _figures(values: Sequence[float]) -> list[float]:
    """Median, least, most, and of how many."""
    figures = (statistics.median(values), min(values), max(values))
    return [*(round(value, 1) for value in figures), len(values)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--joins", type=int, default=20, help="one by one, of each kind")
    parser.add_argument("--many", type=int, default=100, help="at once")
    parser.add_argument("--rounds", type=int, default=3, help="of many at once")
    add_sound(parser)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        work = measure(arguments.joins, arguments.many, arguments.rounds, sound=arguments.sound)
        sys.exit(runner.run(work))


if __name__ == "__main__":
    main()
