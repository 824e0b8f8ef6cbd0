"""What it costs to receive publishers in a process of their own.

That is ``gateway.webrtc.ingest_processes``.
The whole network with ``echo`` behind it, in turn as it is by itself and with all publishers
apart: the CPU-seconds a second of the gateway's own process and of the other one, with ten streams
of both trickle legs and a viewer each; and a picture's delay from WHIP in to WHEP out, with one
stream. Apart, the bar of ``cpu`` for ten and those of ``delay`` for ``echo`` are held against both
processes together.

``python -m bench.apart``
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

import uvloop

from bench.cpu import AT_TEN, SECONDS
from bench.delay import BARS, Round, figure_of, through
from bench.report import report
from bench.source import add_sound, make_clip
from bench.streams import gateway
from relay.cli.network import running_network
from relay.media.unit import AccessUnit

STREAMS: Final = 10
DELAY_SECONDS: Final = 20
APART: Final = {"gateway.webrtc.ingest_processes": 1}
WAYS: Final[dict[str, dict[str, int]]] = {"together": {}, "apart": APART}


async def delay(units: list[AccessUnit], settings: dict[str, int]) -> Round:
    with tempfile.TemporaryDirectory() as folder:
        given = {"worker.slots": 1, "orchestrator.data_dir": f"{folder}/node", **settings}
        async with running_network(Path(folder) / "log", given) as ready:
            await asyncio.sleep(1.0)  # a process that is to receive has started
            base = ready["gateway"]["url"]
            whip, whep = f"{base}/whip/cam?pipeline=echo", f"{base}/whep/cam"
            return await through(whip, whep, units, late=False)


async def measure(seconds: float, rounds: int, *, sound: bool) -> int:
    print("making the clip ...", flush=True)
    units = await asyncio.to_thread(make_clip, DELAY_SECONDS, audio=sound)
    costs: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    delays: dict[str, list[Round]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, settings in WAYS.items():
            own, others = await gateway(units, seconds, STREAMS, more=settings)
            costs[way].append((own / STREAMS, others / STREAMS))
            delays[way].append(await delay(units, settings))
            print(
                f"  {way:8}: the gateway {own / STREAMS:.4f} a stream, others "
                f"{others / STREAMS:.4f}; a picture p50 {delays[way][-1].p50:.2f} ms, p95 "
                f"{delays[way][-1].p95:.2f} (load {os.getloadavg()[0]:.1f})",
                flush=True,
            )
    pairs = list(zip(costs["apart"], costs["together"], strict=True))
    ratios = [sum(ours) / sum(theirs) for ours, theirs in pairs]
    ms = {
        way: {figure: round(figure_of(found, figure), 2) for figure in ("p50", "p95", "max")}
        for way, found in delays.items()
    }
    total = statistics.median(sum(cost) for cost in costs["apart"])
    bars: dict[str, bool | None] = {f"a stream of ten, apart: {AT_TEN:g}": total <= AT_TEN}
    for figure in ("p50", "p95"):
        bar = BARS["echo"][figure]
        bars[f"echo {figure}, apart: {bar:g} ms"] = ms["apart"][figure] <= bar
    return report(
        "apart",
        bars=bars,
        ratio=statistics.median(ratios),
        against="the gateway that receives by itself, CPU-seconds a second, all processes",
        samples=ratios,
        sound=sound,
        own_process_over_together=round(
            statistics.median(ours[0] / sum(theirs) for ours, theirs in pairs), 3
        ),
        a_stream={
            way: [round(statistics.median(cost[at] for cost in found), 4) for at in (0, 1)]
            for way, found in costs.items()
        },
        ms=ms,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a window")
    parser.add_argument("--rounds", type=int, default=3)
    add_sound(parser)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(measure(given.seconds, given.rounds, sound=given.sound)))


if __name__ == "__main__":
    main()
