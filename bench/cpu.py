"""What the gateway costs, in CPU-seconds a second: 720p30 at 2 Mbit/s and Opus.

The whole gateway with 1, 5 and 10 streams (``--streams``), both trickle legs and one viewer each,
beside the sum of its parts, each measured alone in a process of its own: ``receive`` and ``send``
(``bench.ours``), and both trickle legs over TLS (``bench.legs``). A stream of ten is held against
0.02; with ``--before FOLDER``, a checkout of another state whose gateway is measured in turn with
ours, each number of streams also against half of that. Without one that bar is not run.

With ``--aiortc``, against plain aiortc in the same run instead:

- ``receive``: our ingest against aiortc's receiver, which decodes.
- ``gateway``: the whole gateway process with one stream and one viewer (both trickle legs
  included, ``echo`` behind it) against the plain relay.
- ``fan_out``: 20 viewers of encoded pictures and sound against aiortc's own sender of the same.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.report import report
from bench.servers import cpu_share, server
from bench.source import add_sound, has_sound, make_clip, words_of
from bench.streams import Count, check, gateway, publishing, watching
from relay.media.unit import AccessUnit

VIEWERS: Final = 20
BARS: Final = {"receive": 1 / 6, "gateway": 1 / 5, "fan_out": 0.6}
AT_TEN: Final = 0.02
"""CPU-seconds a second for a stream, of ten."""
OF_BEFORE: Final = 0.5
STREAMS: Final = (1, 5, 10)
SECONDS: Final = 4.0


async def receive(module: str, kind: str, units: list[AccessUnit], seconds: float) -> float:
    async with server(module, kind) as serving, publishing(f"{serving.url}/whip", units):
        await asyncio.sleep(1.5)
        return await cpu_share(serving.process, seconds)


async def relay(units: list[AccessUnit], seconds: float) -> float:
    async with (
        server("bench.plain", "relay") as serving,
        publishing(f"{serving.url}/whip", units),
    ):
        await asyncio.sleep(0.5)
        async with watching(f"{serving.url}/whep", Count(), sound=has_sound(units)) as count:
            await asyncio.sleep(1.5)
            share = await cpu_share(serving.process, seconds)
        check("plain relay", count.pictures, seconds * 30)
        return share


async def fan_out(module: str, seconds: float, *, sound: bool) -> float:
    words = words_of(sound) if module == "bench.ours" else ()
    async with (
        server(module, "send", *words) as serving,
        watching(f"{serving.url}/whep", Count(), VIEWERS, sound=sound) as count,
    ):
        await asyncio.sleep(2)
        share = await cpu_share(serving.process, seconds)
        check(module, count.pictures, VIEWERS * seconds * 30)
        return share


async def parts(units: list[AccessUnit], seconds: float, streams: int) -> dict[str, float]:
    """What receiving, sending and the trickle legs cost by themselves."""
    costs, words = {}, words_of(has_sound(units))
    async with AsyncExitStack() as stack:
        serving = await stack.enter_async_context(server("bench.ours", "receive"))
        for number in range(streams):
            apart = number / streams / 30
            publisher = publishing(f"{serving.url}/whip", units, after=apart)
            await stack.enter_async_context(publisher)
        await asyncio.sleep(1.5)
        costs["receive"] = await cpu_share(serving.process, seconds)
    async with (
        server("bench.ours", "send", "--streams", str(streams), *words) as serving,
        watching(f"{serving.url}/whep", Count(), streams, sound=has_sound(units)),
    ):
        await asyncio.sleep(1.5)
        costs["send"] = await cpu_share(serving.process, seconds)
    async with (
        server("bench.legs", "serve") as there,
        server("bench.legs", "both", there.url, str(streams), *words) as legs,
    ):
        await asyncio.sleep(1.5)
        costs["legs"] = await cpu_share(legs.process, seconds)
    return costs


async def many(
    seconds: float, rounds: int, counts: list[int], before: Path | None, *, sound: bool
) -> int:
    print("making the clip ...", flush=True)
    units = await asyncio.to_thread(make_clip, audio=sound)
    figures: dict[int, dict[str, list[float]]] = {}
    for streams in counts:
        rows = figures[streams] = {"now": [], "before": [], "parts": []}
        for _ in range(rounds):
            rows["now"].append(sum(await gateway(units, seconds, streams)) / streams)
            if before is not None:
                shares = await gateway(units, seconds, streams, checkout=before)
                rows["before"].append(sum(shares) / streams)
            costs = await parts(units, seconds, streams)
            rows["parts"].append(sum(costs.values()) / streams)
            told = ", ".join(f"{name} {cost / streams:.4f}" for name, cost in costs.items())
            print(
                f"  {streams:2} streams: "
                + ", ".join(f"{name} {row[-1]:.4f}" for name, row in rows.items() if row)
                + f" a stream ({told}; load {os.getloadavg()[0]:.1f})",
                flush=True,
            )
    return _report_many(figures, sound=sound)


def _report_many(figures: dict[int, dict[str, list[float]]], *, sound: bool) -> int:
    medians = {
        streams: {name: statistics.median(row) for name, row in rows.items() if row}
        for streams, rows in figures.items()
    }
    bars: dict[str, bool | None] = {
        f"a stream of ten: {AT_TEN:g}": medians[10]["now"] <= AT_TEN if 10 in medians else None
    }
    most = max(figures)
    against = "before" if figures[most]["before"] else "parts"
    # Window by window, as they were taken in turn: the machine is not the same for long.
    samples = {
        streams: [ours / theirs for ours, theirs in zip(rows["now"], rows[against], strict=True)]
        for streams, rows in figures.items()
    }
    for streams, row in samples.items():
        held = statistics.median(row) <= OF_BEFORE if against == "before" else None
        bars[f"{streams} streams: {OF_BEFORE:g} of before"] = held
    spread: dict[str, Any] = {
        str(streams): {
            name: [round(value, 4) for value in (min(row), statistics.median(row), max(row))]
            for name, row in rows.items()
            if row
        }
        for streams, rows in figures.items()
    }
    return report(
        "cpu",
        bars=bars,
        ratio=statistics.median(samples[most]),
        ratios={str(streams): round(statistics.median(row), 3) for streams, row in samples.items()},
        against={"before": "the gateway before", "parts": "the sum of its parts alone"}[against],
        samples=samples[most],
        streams=most,
        sound=sound,
        a_stream={str(n): round(row["now"], 4) for n, row in medians.items()},
        parts_a_stream={str(n): round(row["parts"], 4) for n, row in medians.items()},
        cpu_a_stream_min_median_max=spread,
    )


async def beside_aiortc(seconds: float, rounds: int, *, sound: bool) -> int:
    print("making the clip ...", flush=True)
    units = await asyncio.to_thread(make_clip, audio=sound)
    ratios: dict[str, list[float]] = {name: [] for name in BARS}
    for _ in range(rounds):
        pairs = {
            "receive": (
                await receive("bench.ours", "receive", units, seconds),
                await receive("bench.plain", "decode", units, seconds),
            ),
            "gateway": (sum(await gateway(units, seconds, 1)), await relay(units, seconds)),
            "fan_out": (
                await fan_out("bench.ours", seconds, sound=sound),
                await fan_out("bench.plain", seconds, sound=sound),
            ),
        }
        for name, (ours, theirs) in pairs.items():
            ratios[name].append(ours / theirs)
            print(f"  {name:8} {ours:.4f} against {theirs:.4f}: {ours / theirs:.3f}", flush=True)
    medians = {name: statistics.median(values) for name, values in ratios.items()}
    return report(
        "cpu",
        bars={f"{name}: {bar:g}": medians[name] <= bar for name, bar in BARS.items()},
        ratio=medians["gateway"],
        against="plain aiortc relay, CPU-seconds a second",
        samples=ratios["gateway"],
        sound=sound,
        receive_over_decoding=round(medians["receive"], 4),
        gateway_over_relay=round(medians["gateway"], 4),
        fan_out_over_aiortc=round(medians["fan_out"], 4),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a window")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--streams", type=int, nargs="+", default=list(STREAMS), help="of one viewer each"
    )
    parser.add_argument(
        "--before",
        type=Path,
        metavar="FOLDER",
        help="a checkout to compare with: git worktree add FOLDER COMMIT, and where that state has"
        " native code, FOLDER/.venv/bin/pip install --editable FOLDER in an environment made there",
    )
    parser.add_argument("--aiortc", action="store_true", help="against plain aiortc instead")
    add_sound(parser)
    given = parser.parse_args()
    if given.before is not None and not (given.before / "relay").is_dir():
        parser.error(f"{given.before} is no checkout: it has no folder relay/")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        work = (
            beside_aiortc(given.seconds, given.rounds, sound=given.sound)
            if given.aiortc
            else many(given.seconds, given.rounds, given.streams, given.before, sound=given.sound)
        )
        sys.exit(runner.run(work))


if __name__ == "__main__":
    main()
