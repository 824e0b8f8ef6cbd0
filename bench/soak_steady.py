"""Does one long stream stay as it began? 720p30 for 12 minutes, and a viewer that never rests.

The viewer asks for a key frame every 100 ms, as broken players do. Held against: a picture
in every second, and 1 MB of memory a minute. ``python -m bench.soak_steady --minutes 12``
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.observed import Observed
from bench.report import report
from bench.source import endless, make_clip
from relay.cli.network import running_network
from relay.cli.pace import pace
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.client import WhepClient, WhipClient

MAX_GROWTH: Final = 1.0
"""MiB a minute, of each process, after the warm-up."""
MAX_GAP: Final = 1.0
ENOUGH: Final = 0.98
"""The share of pictures that come back: on a busy machine the worker leaves older ones out."""
PLI_EVERY: Final = 0.1
SETTLE: Final = 35.0
"""Seconds until ended sessions are forgotten and idle HTTP connections are closed."""


@dataclass(slots=True)
class Viewer:
    """Counts pictures, sounds and the longest wait for a picture."""

    pictures: int = 0
    sounds: int = 0
    longest: float = 0.0
    last: float = field(default_factory=time.monotonic)

    def take(self, unit: AccessUnit) -> None:
        if not unit.is_video:
            self.sounds += 1
            return
        if self.pictures:
            self.longest = max(self.longest, unit.arrival - self.last)
        self.last = unit.arrival
        self.pictures += 1


async def _stream(base: str, seconds: float, model: str) -> tuple[int, Viewer]:
    units = await asyncio.to_thread(make_clip, audio=True)
    viewer = Viewer()
    sent = 0
    whip = await WhipClient.connect(f"{base}/whip/steady?pipeline={model}")
    whep = await WhepClient.connect(f"{base}/whep/steady", on_unit=viewer.take)

    def send(unit: AccessUnit) -> None:
        nonlocal sent
        sent += unit.is_video
        whip.send(unit)

    async def nag() -> None:
        while True:
            whep.request_keyframe()
            await asyncio.sleep(PLI_EVERY)

    sending = asyncio.create_task(pace(endless(units), send))
    nagging = asyncio.create_task(nag())
    try:
        done, _ = await asyncio.wait({sending, nagging}, timeout=seconds)
        for task in done:
            task.result()
    finally:
        for task in (sending, nagging):
            task.cancel()
        await asyncio.wait({sending, nagging})
        await whep.close()
        await whip.close()
    return sent, viewer


async def _soak(minutes: float, model: str, log: Path) -> dict[str, Any]:
    # A first short stream fills every cache, so that "before" is a network that has worked.
    async with running_network(log, {"worker.slots": 1, "gateway.viewer_wait": 2}) as ready:
        base = ready["gateway"]["url"]
        observed = Observed(ready, log)
        await _stream(base, 5, model)
        await asyncio.sleep(SETTLE)
        before = await observed.held()
        watching = asyncio.create_task(observed.watch_memory())
        sent, viewer = await _stream(base, minutes * 60, model)
        watching.cancel()
        await asyncio.wait({watching})
        await asyncio.sleep(SETTLE)
        return {
            "sent": sent,
            "pictures": viewer.pictures,
            "sounds": viewer.sounds,
            "longest_gap_s": round(viewer.longest, 3),
            "growth": observed.growth(min(120.0, minutes * 15)),
            "memory_mib": observed.memory(),
            "left_over": await observed.left_over(before),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--model", default="passthrough")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = uvloop.run(_soak(arguments.minutes, arguments.model, Path(folder) / "up.log"))
    growth = found.pop("growth")
    worst = max(growth.values(), default=0.0)
    bars = {
        "growth a minute": worst < MAX_GROWTH,
        f"no gap of {MAX_GAP:g} s": found["longest_gap_s"] < MAX_GAP,
        f"{ENOUGH:g} of the pictures": found["pictures"] >= ENOUGH * found["sent"],
        "nothing left over": not found["left_over"],
    }
    return report(
        "soak_steady",
        bars=bars,
        ratio=worst / MAX_GROWTH,
        against="1 MiB a minute of each process",
        samples=list(growth.values()) or [0.0],
        minutes=arguments.minutes,
        growth_mib_a_minute={name: round(value, 3) for name, value in growth.items()},
        **found,
    )


if __name__ == "__main__":
    sys.exit(main())
