"""Does anything stay behind? Ten minutes of streams and viewers that come and go.

Publishers end by DELETE, by silence or are taken over; viewers come before, during and
after them. Held against: what the processes held before, 1 MB of memory a minute, and
flatness: each process's median of the last quarter, beside that of the second.
``python -m bench.soak_churn --minutes 10``; the long one, by hand, with ``--minutes 120``.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.observed import Observed
from bench.report import report
from relay.cli import clip
from relay.cli.network import running_network
from relay.cli.pace import pace
from relay.errors import RelayError
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.client import WhepClient, WhipClient

MAX_GROWTH: Final = 1.0
"""MiB a minute, of each process, after the warm-up."""
MAX_RISE: Final = 0.05
"""Share, from the second quarter to the last."""
STREAMS: Final = 3
VIEWERS: Final = 3
CLIP_SECONDS: Final = 6
MODELS: Final = ("passthrough", "echo", "effects")
WARM_UP: Final = 30.0
SETTLE: Final = 90.0
"""Seconds until silent peers are given up (30) and a server has closed what HTTP connections
were kept for another request (75)."""


class Churn:
    """
    Args:
        base: the gateway's address.
        units: a short clip.
        seed: of what comes and goes, so that a run can be repeated.
    """

    def __init__(self, base: str, units: Sequence[AccessUnit], seed: int) -> None:
        self._base = base
        self._units = units
        self._random = random.Random(seed)
        self.counts: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            for lane in range(STREAMS):
                tasks.create_task(self._lane(lane, until))

    async def _lane(self, lane: int, until: float) -> None:
        for turn in itertools.count():
            if time.monotonic() >= until:
                return
            name = f"churn-{lane}-{turn % 4}"  # a name comes back after a few turns
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._random.randint(0, VIEWERS)):
                    tasks.create_task(self._view(name))
                tasks.create_task(self._publish(name))

    async def _publish(self, name: str) -> None:
        await asyncio.sleep(self._random.uniform(0, 0.5))
        url = f"{self._base}/whip/{name}?pipeline={self._random.choice(MODELS)}"
        try:
            client = await WhipClient.connect(url)
        except RelayError as error:
            self.counts[f"publish refused: {error.code}"] += 1
            await asyncio.sleep(1)
            return
        self.counts["publishers"] += 1
        ending = self._random.choice(("delete", "delete", "silence", "takeover"))
        try:
            async with asyncio.timeout(self._random.uniform(1, CLIP_SECONDS)):
                await pace(self._units, client.send)
        except TimeoutError:
            pass
        if ending == "silence":
            await asyncio.sleep(self._random.uniform(0.5, 2))
        if ending == "takeover":
            await asyncio.sleep(1.1)  # a silent publisher may be taken over after a second
            await self._take_over(url)
        await client.close()

    async def _take_over(self, url: str) -> None:
        try:
            second = await WhipClient.connect(url)
        except RelayError as error:
            self.counts[f"takeover refused: {error.code}"] += 1
            return
        self.counts["takeovers"] += 1
        try:
            async with asyncio.timeout(1.5):
                await pace(self._units, second.send)
        except TimeoutError:
            pass
        await second.close()

    async def _view(self, name: str) -> None:
        await asyncio.sleep(self._random.uniform(0, 2))
        pictures = 0

        def take(unit: AccessUnit) -> None:
            nonlocal pictures
            pictures += unit.is_video

        try:
            client = await WhepClient.connect(f"{self._base}/whep/{name}", on_unit=take)
        except RelayError as error:
            self.counts[f"view refused: {error.code}"] += 1
            return
        self.counts["viewers"] += 1
        await asyncio.sleep(self._random.uniform(0.5, 4))
        self.counts["viewers with a picture"] += pictures > 0
        self.counts["pictures"] += pictures
        await client.close()


def _tell(seconds: float, sample: Mapping[str, float]) -> None:
    """A line a minute."""
    if seconds % 60 == 0:
        words = ", ".join(f"{name} {value:.1f}" for name, value in sample.items())
        load = os.getloadavg()[0]
        print(f"  {seconds / 60:3.0f} min: {words} MiB, load {load:.2f}", flush=True)


async def _soak(minutes: float, seed: int, log: Path) -> dict[str, Any]:
    units = await asyncio.to_thread(clip.encoded, CLIP_SECONDS, width=320, height=240)
    settings = {"worker.slots": STREAMS, "gateway.viewer_wait": 3}
    async with running_network(log, settings) as ready:
        observed = Observed(ready, log)
        churn = Churn(ready["gateway"]["url"], units, seed)
        await churn.run(WARM_UP)
        await asyncio.sleep(SETTLE)
        before = await observed.held()
        watching = asyncio.create_task(observed.watch_memory(tell=_tell))
        churn.counts.clear()
        await churn.run(minutes * 60)
        watching.cancel()
        await asyncio.wait({watching})
        await asyncio.sleep(SETTLE)
        return {
            "growth": observed.growth(min(120.0, minutes * 15)),
            "rise": observed.rise(),
            "memory_mib": observed.memory(),
            "minutes_mib": observed.by_minute(),
            "left_over": await observed.left_over(before),
            "counts": dict(churn.counts),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = uvloop.run(_soak(arguments.minutes, arguments.seed, Path(folder) / "up.log"))
    growth = found.pop("growth")
    worst = max(growth.values(), default=0.0)
    rise = found.pop("rise")
    counts = found["counts"]
    bars = {
        "growth a minute": worst < MAX_GROWTH,
        "rise from the first part to the last": max(rise.values(), default=0.0) < MAX_RISE,
        "nothing left over": not found["left_over"],
        "publishers came": counts.get("publishers", 0) > 0,
        "viewers saw a picture": counts.get("viewers with a picture", 0) > 0,
    }
    return report(
        "soak_churn",
        bars=bars,
        ratio=worst / MAX_GROWTH,
        against="1 MiB a minute of each process",
        samples=list(growth.values()) or [0.0],
        minutes=arguments.minutes,
        growth_mib_a_minute={name: round(value, 3) for name, value in growth.items()},
        rise={name: round(value, 4) for name, value in rise.items()},
        **found,
    )


if __name__ == "__main__":
    sys.exit(main())
