"""What the collector of garbage costs a gateway, by its thresholds.

The whole network with ``echo`` behind it and 720p30 at 2 Mbit/s, a hundred viewers that report,
and ten more who come and leave each second or two: most of what a gateway makes new. Its process
freezes what start-up made, as always, and then takes the round's thresholds in the place of its
own; how often and for how long it collects is counted inside it, CPU and memory are looked at
from outside. The rounds take turns.

Held against Python's own thresholds. ``python -m bench.collector``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import uvloop

from bench.crowd.audience import Audience
from bench.crowd.built import NoCompiler, build
from bench.memory import crowds, held, network
from bench.report import report
from bench.source import make_clip
from bench.streams import publishing
from relay.media.unit import AccessUnit

SETTINGS: Final[Mapping[str, tuple[int, int, int]]] = {
    "700, 10, 10": (700, 10, 10),
    "10000, 5, 5": (10_000, 5, 5),
    "50000, 20, 20": (50_000, 20, 20),
    "off": (0, 0, 0),
}
OWN: Final = "700, 10, 10"
VIEWERS: Final = 100
JOINS: Final = 10
WINDOW: Final = 40.0
"""Seconds."""
HOOK: Final = """
import gc, json, os, threading, time
_freeze = gc.freeze
_seen = [[0, 0.0, 0.0] for _ in range(3)]
_began = 0.0
def _collected(phase, found):
    global _began
    if phase == "start":
        _began = time.perf_counter()
        return
    took, seen = time.perf_counter() - _began, _seen[found["generation"]]
    seen[0] += 1
    seen[1] += took
    seen[2] = max(seen[2], took)
def _tell():
    while True:
        time.sleep(0.5)
        path = os.path.join({folder!r}, str(os.getpid()))
        with open(path + ".new", "w") as file:
            json.dump(_seen, file)
        os.replace(path + ".new", path)
def freeze():
    _freeze()
    gc.set_threshold(*{thresholds!r})
    gc.set_threshold = lambda *ours: None
    gc.callbacks.append(_collected)
    threading.Thread(target=_tell, daemon=True).start()
gc.freeze = freeze
"""
"""Loaded by each process at its start, as Python loads a ``sitecustomize``."""


@dataclass(frozen=True, slots=True)
class Seen:
    """CPU-seconds a second; of each generation how many collections, the seconds they took, and
    the longest; MB more at the end of the window than at its beginning."""

    cpu: float
    collections: list[list[float]]
    grown: float

    @property
    def longest(self) -> float:
        return max(each[2] for each in self.collections)


async def a_round(
    units: list[AccessUnit], library: Path, folder: Path, thresholds: tuple[int, int, int]
) -> Seen:
    hook, told = folder / "hook", folder / "told"
    for path in (hook, told):
        path.mkdir(parents=True)
    (hook / "sitecustomize.py").write_text(HOOK.format(folder=str(told), thresholds=thresholds))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(hook), before)))
    try:
        async with network(folder / "network", slots=1) as (base, process):
            whip, whep = f"{base}/whip/one?pipeline=echo", f"{base}/whep/one"
            async with publishing(whip, units), crowds(library, whep) as come:
                await come(VIEWERS)
                await asyncio.sleep(3)
                return await window(process, told / str(process.pid), library, whep)
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


async def window(process: psutil.Process, told: Path, library: Path, whep: str) -> Seen:
    joining = asyncio.create_task(come_and_go(library, whep))
    await asyncio.sleep(3)
    start, memory, counted = process.cpu_times(), held(process), _told(told)
    await asyncio.sleep(WINDOW)
    end, more, later = process.cpu_times(), held(process), _told(told)
    joining.cancel()
    await asyncio.gather(joining, return_exceptions=True)
    cpu = (end.user + end.system - start.user - start.system) / WINDOW
    return Seen(
        cpu,
        [
            [b[0] - a[0], b[1] - a[1], b[2] if b[0] > a[0] else 0.0]
            for a, b in zip(counted, later, strict=True)
        ],
        more - memory,
    )


def _told(path: Path) -> list[list[float]]:
    found: list[list[float]] = json.loads(path.read_text())
    return found


async def come_and_go(library: Path, whep: str) -> None:
    while True:
        audience = Audience(library, JOINS, transport_wide=True)
        try:
            await audience.join(whep)
            await asyncio.sleep(0.5)
        finally:
            await audience.close()


async def measure(rounds: int) -> int:
    units = await asyncio.to_thread(make_clip)
    found: dict[str, list[Seen]] = {name: [] for name in SETTINGS}
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        for number in range(rounds):
            for name, thresholds in SETTINGS.items():
                at = Path(folder) / f"{number}-{thresholds[0]}"
                seen = await a_round(units, library, at, thresholds)
                found[name].append(seen)
                counts = ", ".join(
                    f"{int(n)} in {took * 1000:.0f} ms (longest {most * 1000:.1f})"
                    for n, took, most in seen.collections
                )
                print(
                    f"  {name:>14}: CPU {seen.cpu:.3f}, {counts}; {seen.grown:+.1f} MB;"
                    f" load {os.getloadavg()[0]:.2f}",
                    flush=True,
                )
    cpu = {name: statistics.median(seen.cpu for seen in all_) for name, all_ in found.items()}
    more: dict[str, Any] = {
        "cpu": {name: round(value, 4) for name, value in cpu.items()},
        "longest_ms": {
            name: [round(seen.longest * 1000, 2) for seen in all_] for name, all_ in found.items()
        },
        "grown_mb": {name: [round(seen.grown, 1) for seen in all_] for name, all_ in found.items()},
        "sound": True,
        "load": round(os.getloadavg()[0], 2),
    }
    ratios = [cpu[name] / cpu[OWN] for name in SETTINGS if name != OWN]
    return report(
        "collector",
        bars={},  # there is none: it is for choosing
        ratio=min(ratios),
        against="Python's own thresholds",
        samples=ratios,
        **more,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    try:
        return uvloop.run(measure(arguments.rounds))
    except NoCompiler as error:
        print(error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
