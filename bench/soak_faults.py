"""Does the picture come back, each time? Processes of a network die and stall while viewers watch.

One stream with sound through ``echo``, and viewers that stay. Every few seconds something goes
wrong, at random: a process is killed or stopped for a while, the publisher falls silent, strangers
send rubbish. Held against: the seconds after which every viewer has had the picture again, the
viewers' connections, which only the gateway's own end may interrupt, their sound as long as its
publisher goes on, and what the API tells meanwhile.

``python -m bench.soak_faults --minutes 15``, by hand; with ``--apart`` the publisher is received in
a process of its own, which dies and stalls too.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

import aiohttp
import uvloop

from bench.faults import APART, FAULTS, NAME, Desk, Fault
from bench.report import report
from bench.source import make_clip
from relay.cli.crowd import look_after
from relay.cli.network import running_network
from relay.cli.viewer import Viewer
from relay.media.unit import AccessUnit

VIEWERS: Final = 6
CALM: Final = 2.0
"""Seconds of a whole picture at every viewer, until the next fault."""
STEADY: Final = 0.8
"""Share of 30 pictures a second that is a whole picture."""
GIVE_UP: Final = 30.0
"""Seconds beyond its bound after which a fault is not waited for any more."""
SILENCE: Final = 1.0
"""Seconds that viewers may hear nothing while their connection stays."""
LONG: Final = 2.0
"""Seconds without a picture of which something is to be told."""
NO_ANSWER: Final = "no answer"


class Spectator(Viewer):
    """A viewer that comes back, and remembers its longest time without sound."""

    heard_at = silent_for = 0.0

    def _unit(self, unit: AccessUnit) -> None:
        super()._unit(unit)
        if not unit.is_video:
            now = time.monotonic()
            self.silent_for = max(self.silent_for, now - self.heard_at)
            self.heard_at = now

    def begin(self) -> None:
        super().begin()
        self.heard_at, self.silent_for = time.monotonic(), 0.0

    @property
    def silence(self) -> float:
        """Seconds, the longest so far; one that lasts counts up to now."""
        return max(self.silent_for, time.monotonic() - self.heard_at)


@dataclass(slots=True)
class Found:
    """What became of the faults: seconds without a picture, and what was wrong."""

    gaps: dict[str, list[float]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)

    def note(
        self, fault: Fault, gap: float, sound: float, returned: int, told: Sequence[str]
    ) -> None:
        self.gaps.setdefault(fault.name, []).append(round(gap, 2))
        self.ratios.append(gap / fault.within)
        self.told.update(told)
        if gap > fault.within:
            self.wrong.append(f"{fault.name}: {gap:.1f} s without a picture")
        if fault.stays and returned:
            self.wrong.append(f"{fault.name}: {returned} viewers lost their connection")
        if fault.hears and sound > SILENCE:
            self.wrong.append(f"{fault.name}: {sound:.1f} s without sound")
        if gap > LONG and fault.answers and not set(told) - {NO_ANSWER}:
            self.wrong.append(f"{fault.name}: {gap:.1f} s without a picture, and nothing told")
        words = ", ".join(told) or "nothing told"
        print(f"  {fault.name}: {gap:.2f} s ({sound:.2f} s of sound); {words}", flush=True)


async def _listen(desk: Desk, told: list[str]) -> None:
    """Add each new thing that the API tells."""
    timeout = aiohttp.ClientTimeout(total=2)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        while True:
            await asyncio.sleep(0.2)
            try:
                said = await desk.told(http)
            except (aiohttp.ClientError, TimeoutError):
                said = NO_ANSWER
            if said is not None and said not in told:
                told.append(said)


async def _calm(viewers: Sequence[Spectator], seconds: float) -> bool:
    """Wait until all of them see a whole picture again; whether they do in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = [each.look().pictures for each in viewers]
        await asyncio.sleep(CALM)
        least = min(each.look().pictures - had for each, had in zip(viewers, before, strict=True))
        if least >= STEADY * 30 * CALM:
            return True
    return False


async def _one(desk: Desk, viewers: Sequence[Spectator], fault: Fault, found: Found) -> None:
    for each in viewers:
        each.begin()
    returned = sum(each.look().returns for each in viewers)
    told: list[str] = []
    listening = asyncio.create_task(_listen(desk, told))
    await fault.make(desk)
    calm = await _calm(viewers, fault.within + GIVE_UP)
    listening.cancel()
    await asyncio.wait({listening})
    looks = [each.look() for each in viewers]
    returned = sum(each.returns for each in looks) - returned
    if not calm:
        found.wrong.append(f"{fault.name}: no whole picture again after {GIVE_UP:.0f} s more")
    found.note(
        fault,
        max(each.still for each in looks),
        max(each.silence for each in viewers),
        returned,
        told,
    )


async def _soak(minutes: float, seed: int, log: Path, *, apart: bool) -> tuple[Found, bool]:
    chance, found = random.Random(seed), Found()
    faults = FAULTS + APART if apart else FAULTS
    settings = {"worker.slots": 2, "gateway.webrtc.ingest_processes": int(apart)}
    units = await asyncio.to_thread(make_clip)
    async with running_network(log, settings) as ready:
        desk = Desk(ready)
        publishing = asyncio.create_task(desk.publish(units))
        viewers = [Spectator(f"{desk.base}/whep/{NAME}") for _ in range(VIEWERS)]
        await asyncio.sleep(1)
        await asyncio.gather(*(each.join() for each in viewers))
        staying = [asyncio.create_task(each.stay()) for each in viewers]
        tasks = [publishing, *staying, asyncio.create_task(look_after(viewers))]
        try:
            if not await _calm(viewers, GIVE_UP):
                raise RuntimeError("no picture to begin with")
            until = time.monotonic() + 60 * minutes
            while time.monotonic() < until:
                [fault] = chance.choices(faults, [each.weight for each in faults])
                await _one(desk, viewers, fault, found)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(each.leave() for each in viewers))
        async with aiohttp.ClientSession() as http:
            deadline = time.monotonic() + GIVE_UP
            while not (free := await desk.all_free(http)) and time.monotonic() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(0.5)
    return found, free


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--apart", action="store_true", help="gateway.webrtc.ingest_processes=1")
    parser.add_argument("--log", type=Path, help="keep what the network says here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = arguments.log or Path(folder) / "up.log"
        found, free = uvloop.run(
            _soak(arguments.minutes, arguments.seed, log, apart=arguments.apart)
        )
    for words in found.wrong:
        print(f"wrong: {words}", flush=True)
    return report(
        "soak_faults",
        bars={"each fault is got over": not found.wrong, "all slots are free at the end": free},
        ratio=max(found.ratios),
        against="the seconds that each fault may take, the worst of all",
        samples=found.ratios,
        minutes=arguments.minutes,
        seconds={
            name: {"n": len(gaps), "median": round(median(gaps), 2), "most": max(gaps)}
            for name, gaps in sorted(found.gaps.items())
        },
        wrong=found.wrong,
        told=dict(found.told),
    )


if __name__ == "__main__":
    sys.exit(main())
