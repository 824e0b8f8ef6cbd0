"""What a viewer and a stream cost the gateway in memory, and what of it comes back.

The whole network with ``echo`` behind it and 720p30 at 2 Mbit/s with Opus by WHIP; viewers come
by ICE, DTLS and SRTP, are offered transport-wide numbers as browsers are, report each second and
are drained by C. Looked at is the gateway's process from outside (PSS: pages that it shares with
others count in part), in steps, each after a while of media. The figure is the slope of the
steps: what one more costs. Then all leave, and as many come and leave once more: what stays
after the second time and did not after the first is a leak.

Held against plain aiortc with fewer viewers in the same run, and the bars.
``python -m bench.memory``; ``--full`` goes to 400 viewers and 10 streams.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil
import uvloop

from bench.crowd.audience import Audience
from bench.crowd.built import NoCompiler, build
from bench.observed import slope
from bench.report import report
from bench.servers import server
from bench.source import add_sound, has_sound, make_clip
from bench.streams import publishing
from relay.cli.network import running_network
from relay.media.unit import AccessUnit
from relay.memory import LOOK

A_VIEWER: Final = 0.4
"""MB, of 10^6 bytes."""
A_STREAM: Final = 15.0
VIEWERS: Final = {False: (50, 100, 200), True: (100, 200, 400)}
STREAMS: Final = {False: (2, 4, 6), True: (3, 6, 10)}
AIORTC: Final = (6, 12, 18)
MEDIA: Final = 6.0
"""Seconds of media before each look: histories, logs and kept groups are full by then."""
GONE: Final = 30.0
"""Seconds in which a gateway notices who left without a word."""
SETTLED: Final = 2 + 2 * LOOK
"""Seconds after that in which it has let go of everything, and given back what is free."""
MB: Final = 1e6


@dataclass(slots=True)
class Found:
    """Megabytes; one figure a round."""

    a_viewer: list[float] = field(default_factory=list)
    a_stream: list[float] = field(default_factory=list)
    aiortc_viewer: list[float] = field(default_factory=list)
    kept_first: list[float] = field(default_factory=list)  # a viewer, after the first crowd left
    kept_more: list[float] = field(default_factory=list)  # ... that the second one added
    kept_stream: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)

    def told(self) -> dict[str, list[float]]:
        names = ("a_viewer", "a_stream", "aiortc_viewer", "kept_first", "kept_more", "kept_stream")
        told = {name: [round(value, 3) for value in getattr(self, name)] for name in names}
        return told | {"idle": [round(value, 1) for value in self.idle]}


def held(process: psutil.Process) -> float:
    """PSS in MB."""
    return float(process.memory_full_info().pss) / MB


async def steps(
    process: psutil.Process, counts: Sequence[int], more: Callable[[int], Awaitable[None]]
) -> list[tuple[float, float]]:
    """Bring it up to each count in turn; what is held at each.

    Args:
        more: brings so many more.
    """
    points: list[tuple[float, float]] = []
    before = 0
    for count in counts:
        await more(count - before)
        before = count
        await asyncio.sleep(MEDIA)
        points.append((float(count), held(process)))
        print(f"    {count:>4}: {points[-1][1]:7.1f} MB", flush=True)
    return points


@asynccontextmanager
async def crowds(
    library: Path, url: str, *, sound: bool = True
) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """A function that brings more viewers of ``url``; they leave with the block."""
    audiences: list[Audience] = []

    async def come(number: int) -> None:
        audience = Audience(library, number, transport_wide=True, sound=sound)
        audiences.append(audience)
        await audience.join(url)
        async with asyncio.timeout(20):
            while audience.started() < number:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    try:
        yield come
    finally:
        for audience in audiences:
            await audience.close()


async def left(base: str, name: str) -> None:
    """Until the gateway has noticed that all are gone, and has let go of them."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(GONE):
        while True:
            async with http.get(f"{base}/v1/streams/{name}") as answer:
                if answer.status == 404 or (await answer.json())["viewers"] == 0:
                    break
            await asyncio.sleep(0.5)
    await asyncio.sleep(SETTLED)


async def viewers(
    base: str, process: psutil.Process, units: list[AccessUnit], library: Path, *, full: bool
) -> tuple[float, float, float]:
    """MB a viewer; what stays of one when all have left; what a second crowd leaves beside."""
    counts = VIEWERS[full]
    whip, whep = f"{base}/whip/one?pipeline=echo", f"{base}/whep/one"
    async with publishing(whip, units):
        first = crowds(library, whep, sound=has_sound(units))
        async with first as come:  # the first viewers ever fill caches
            await come(2)
            await asyncio.sleep(MEDIA)
        await left(base, "one")
        alone = held(process)
        print(f"  viewers of one stream, {alone:.1f} MB without", flush=True)
        after = []
        for turn in range(2):
            async with crowds(library, whep, sound=has_sound(units)) as come:
                points = await steps(process, counts if turn == 0 else counts[-1:], come)
                if turn == 0:
                    each = slope([(0.0, alone), *points])
            await left(base, "one")
            after.append(held(process))
            print(f"    left: {after[-1]:7.1f} MB", flush=True)
    most = counts[-1]
    return each, (after[0] - alone) / most, (after[1] - after[0]) / most


async def streams(
    base: str, process: psutil.Process, units: list[AccessUnit], *, full: bool
) -> tuple[float, float]:
    """MB a stream with both trickle legs; what stays of one when all have ended."""
    counts = STREAMS[full]
    alone = held(process)
    print(f"  streams, {alone:.1f} MB without", flush=True)
    async with AsyncExitStack() as stack:
        began = 0

        async def more(number: int) -> None:
            nonlocal began
            for _ in range(number):
                whip = f"{base}/whip/many-{began}?pipeline=echo"
                await stack.enter_async_context(publishing(whip, units, after=began / 300))
                began += 1
            async with aiohttp.ClientSession() as http, asyncio.timeout(20):
                while not await _all_live(http, base, began):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)

        points = await steps(process, counts, more)
    await left(base, f"many-{began - 1}")
    kept = (held(process) - alone) / counts[-1]
    # From the first ones on: they bring what all share, TLS and MPEG-TS among it.
    return slope(points), kept


async def _all_live(http: aiohttp.ClientSession, base: str, number: int) -> bool:
    async with http.get(f"{base}/v1/streams") as answer:
        told = (await answer.json())["streams"]
    return len([stream for stream in told if stream["state"] == "live"]) >= number


@asynccontextmanager
async def network(folder: Path, *, slots: int) -> AsyncIterator[tuple[str, psutil.Process]]:
    """A whole network; yields the gateway's address and process."""
    folder.mkdir(parents=True)  # noqa: ASYNC240 - once, before anything runs
    settings = {"worker.slots": slots, "orchestrator.data_dir": str(folder / "node")}
    async with running_network(folder / "log", settings) as ready:
        yield ready["gateway"]["url"], psutil.Process(ready["gateway"]["pid"])


async def a_round(
    units: list[AccessUnit], library: Path, folder: Path, found: Found, *, full: bool
) -> None:
    async with network(folder / "viewers", slots=1) as (base, process):
        found.idle.append(held(process))
        each, first, more = await viewers(base, process, units, library, full=full)
        found.a_viewer.append(each)
        found.kept_first.append(first)
        found.kept_more.append(more)
    async with network(folder / "streams", slots=STREAMS[full][-1]) as (base, process):
        each, kept = await streams(base, process, units, full=full)
        found.a_stream.append(each)
        found.kept_stream.append(kept)
    async with server("bench.plain", "send") as plain:
        print("  aiortc, viewers", flush=True)
        async with crowds(library, f"{plain.url}/whep", sound=has_sound(units)) as come:
            await come(2)
            points = await steps(plain.process, AIORTC, come)
        found.aiortc_viewer.append(slope(points))


async def measure(rounds: int, *, full: bool, sound: bool) -> int:
    units = await asyncio.to_thread(make_clip, audio=sound)
    found = Found()
    print(f"load {os.getloadavg()[0]:.2f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        for number in range(rounds):
            print(f"round {number + 1}", flush=True)
            await a_round(units, library, Path(folder) / str(number), found, full=full)
    load = os.getloadavg()[0]
    print(f"load {load:.2f}", flush=True)
    viewer, stream = statistics.median(found.a_viewer), statistics.median(found.a_stream)
    more: dict[str, Any] = {
        "mb": found.told(),
        "bars_mb": {"a_viewer": A_VIEWER, "a_stream": A_STREAM},
        "sound": sound,
        "load": round(load, 2),
    }
    return report(
        "memory",
        bars={
            f"a viewer: {A_VIEWER:g} MB": viewer <= A_VIEWER,
            f"a stream: {A_STREAM:g} MB": stream <= A_STREAM,
        },
        ratio=viewer / statistics.median(found.aiortc_viewer),
        against="a viewer of plain aiortc",
        samples=found.a_viewer,
        **more,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--full", action="store_true")
    add_sound(parser)
    arguments = parser.parse_args()
    try:
        return uvloop.run(measure(arguments.rounds, full=arguments.full, sound=arguments.sound))
    except NoCompiler as error:
        print(error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
