"""What the gateway costs, in CPU-seconds a second, against plain aiortc in the same run.

- ``receive``: our ingest against aiortc's receiver, which decodes.
- ``gateway``: the whole gateway process with one stream and one viewer (both trickle legs
  included, ``echo`` behind it) against the plain relay.
- ``fan_out``: 20 viewers of encoded pictures against aiortc's own sender of the same.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import psutil
import uvloop

from bench.report import report
from bench.servers import LOOPBACK, cpu_share, server
from bench.source import make_clip, pictures
from relay.cli.network import running_network
from relay.cli.pace import pace
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.client import WhepClient, WhipClient

VIEWERS: Final = 20
BARS: Final = {"receive": 1 / 6, "gateway": 1 / 5, "fan_out": 0.6}


class Count:
    """Viewers' pictures, to see that something was really delivered."""

    def __init__(self) -> None:
        self.pictures = 0

    def unit(self, unit: AccessUnit) -> None:
        self.pictures += unit.is_video


@asynccontextmanager
async def publishing(url: str, units: list[AccessUnit]) -> AsyncIterator[None]:
    whip = await WhipClient.connect(url, audio=False, settings=LOOPBACK)
    sending = asyncio.create_task(pace(pictures(units), whip.send))
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await whip.close()


@asynccontextmanager
async def watching(url: str, viewers: int) -> AsyncIterator[Count]:
    count = Count()
    async with AsyncExitStack() as stack:
        for _ in range(viewers):
            client = await WhepClient.connect(
                url, on_unit=count.unit, audio=False, settings=LOOPBACK
            )
            stack.push_async_callback(client.close)
        yield count


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
        async with watching(f"{serving.url}/whep", 1) as count:
            await asyncio.sleep(1.5)
            share = await cpu_share(serving.process, seconds)
        _delivered("plain relay", count, 1, seconds)
        return share


async def gateway(units: list[AccessUnit], seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        async with running_network(Path(folder) / "log", {"worker.slots": 1}) as ready:
            base, process = ready["gateway"]["url"], psutil.Process(ready["gateway"]["pid"])
            async with (
                publishing(f"{base}/whip/bench?pipeline=echo", units),
                watching(f"{base}/whep/bench", 1) as count,
            ):
                await asyncio.sleep(2)
                share = await cpu_share(process, seconds)
            _delivered("gateway", count, 1, seconds)
            return share


async def fan_out(module: str, seconds: float) -> float:
    async with (
        server(module, "send") as serving,
        watching(f"{serving.url}/whep", VIEWERS) as count,
    ):
        await asyncio.sleep(2)
        share = await cpu_share(serving.process, seconds)
        _delivered(module, count, VIEWERS, seconds)
        return share


def _delivered(name: str, count: Count, viewers: int, seconds: float) -> None:
    if count.pictures < 0.8 * viewers * seconds * 30:
        raise RuntimeError(f"{name}: only {count.pictures} pictures reached {viewers} viewers")


async def measure(seconds: float, rounds: int) -> int:
    print("making the clip ...", flush=True)
    units = await asyncio.to_thread(make_clip)
    ratios: dict[str, list[float]] = {name: [] for name in BARS}
    for _ in range(rounds):
        pairs = {
            "receive": (
                await receive("bench.ours", "receive", units, seconds),
                await receive("bench.plain", "decode", units, seconds),
            ),
            "gateway": (await gateway(units, seconds), await relay(units, seconds)),
            "fan_out": (
                await fan_out("bench.ours", seconds),
                await fan_out("bench.plain", seconds),
            ),
        }
        for name, (ours, theirs) in pairs.items():
            ratios[name].append(ours / theirs)
            print(f"  {name:8} {ours:.4f} against {theirs:.4f}: {ours / theirs:.3f}", flush=True)
    medians = {name: statistics.median(values) for name, values in ratios.items()}
    return report(
        "cpu",
        passed=all(medians[name] <= bar for name, bar in BARS.items()),
        ratio=medians["gateway"],
        against="plain aiortc relay, CPU-seconds a second",
        samples=ratios["gateway"],
        receive_over_decoding=round(medians["receive"], 4),
        gateway_over_relay=round(medians["gateway"], 4),
        fan_out_over_aiortc=round(medians["fan_out"], 4),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(measure(arguments.seconds, arguments.rounds)))


if __name__ == "__main__":
    main()
