"""How long a picture takes from WHIP in to WHEP out, and how long through a plain relay.

The same client sends the same clip (720p30, 2 Mbit/s) through three things in turn, a few
rounds: our whole network with ``echo`` (what the network itself costs), with
``passthrough`` (a worker decodes and encodes), and a plain aiortc relay (decode,
``MediaRelay``, encode). A picture is told by the number in its pixels, read after the
round, so that nothing but the sending and the receiving runs beside what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

from bench.report import percentile, report
from bench.servers import LOOPBACK, server
from bench.source import make_clip
from relay.cli import clip
from relay.cli.network import running_network
from relay.cli.pace import pace
from relay.errors import ParseError
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.client import WhepClient, WhipClient
from relay.worker.codec import Decoder

WARM_UP: Final = 2.0
"""Seconds at the beginning of a round that do not count: connecting, first key frames."""
ECHO_P95: Final = 10.0
PASSTHROUGH_P95: Final = 20.0
ECHO_TIMES: Final = 8.0
PASSTHROUGH_TIMES: Final = 4.0


@dataclass(slots=True)
class Round:
    """One round through one thing. Times in ms."""

    delays: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    sent: int = 0

    @property
    def p50(self) -> float:
        return percentile(self.delays, 0.5)

    @property
    def p95(self) -> float:
        return percentile(self.delays, 0.95)


class Client:
    """Sends and receives; notes when, and how much of it was its own work."""

    def __init__(self) -> None:
        self.sent: dict[int, float] = {}
        self.came: list[tuple[AccessUnit, float]] = []
        self.own: list[float] = []
        self._number = 0

    def send(self, whip: WhipClient, unit: AccessUnit) -> None:
        began = time.monotonic()
        self.sent[self._number] = began
        self._number += 1
        whip.send(unit)
        self.own.append(time.monotonic() - began)

    def receive(self, unit: AccessUnit) -> None:
        now = time.monotonic()
        self.came.append((unit, now))
        self.own.append(now - unit.arrival)

    def result(self) -> Round:
        """Read the numbers; slow, so only when all is over."""
        done = Round(sent=len(self.sent))
        done.own = [seconds * 1000 for seconds in self.own]
        first = min(self.sent.values()) + WARM_UP
        decoder = Decoder()
        for unit, came in self.came:
            try:
                pictures = decoder.decode(unit)
            except ParseError:
                continue
            for picture in pictures:
                number = clip.read(picture.to_array("rgb24", picture.size))
                if number in self.sent and self.sent[number] >= first:
                    done.delays.append((came - self.sent[number]) * 1000)
        return done


async def through(whip_url: str, whep_url: str, units: list[AccessUnit], *, late: bool) -> Round:
    """Send the clip; ``late``: the viewer comes when there is something to see."""
    client = Client()
    whip = await WhipClient.connect(whip_url, audio=False, settings=LOOPBACK)
    try:
        sending = asyncio.create_task(pace(units, lambda unit: client.send(whip, unit)))
        if late:
            await asyncio.sleep(0.5)
        whep = await WhepClient.connect(
            whep_url, on_unit=client.receive, audio=False, settings=LOOPBACK
        )
        try:
            await sending
            await asyncio.sleep(0.5)
        finally:
            await whep.close()
    finally:
        await whip.close()
    return await asyncio.to_thread(client.result)


async def measure(seconds: int, rounds: int) -> int:
    print(f"making {seconds} s of 720p30 at 2 Mbit/s ...", flush=True)
    units = await asyncio.to_thread(make_clip, seconds)
    results: dict[str, list[Round]] = {"relay": [], "echo": [], "passthrough": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            async with server("bench.plain", "relay") as relay:
                whip, whep = f"{relay.url}/whip", f"{relay.url}/whep"
                done = await through(whip, whep, units, late=True)
            results["relay"].append(done)
            _say("relay", done)
            log = Path(folder) / f"{number}.log"
            async with running_network(log, {"worker.slots": 1}) as ready:
                base = ready["gateway"]["url"]
                for model in ("echo", "passthrough"):
                    whip = f"{base}/whip/{model}?pipeline={model}"
                    done = await through(whip, f"{base}/whep/{model}", units, late=False)
                    results[model].append(done)
                    _say(model, done)
    return _report(results)


def _say(name: str, done: Round) -> None:
    if not done.delays:
        print(f"  {name:12} nothing came back of {done.sent} pictures", flush=True)
        return
    print(
        f"  {name:12} p50 {done.p50:6.2f}  p95 {done.p95:6.2f}  max {max(done.delays):6.2f} ms"
        f"  ({len(done.delays)} pictures; the client's own share"
        f" {2 * statistics.median(done.own):.2f} ms)",
        flush=True,
    )


def _median(results: list[Round], share: float) -> float:
    return statistics.median(percentile(done.delays, share) for done in results)


def _report(results: dict[str, list[Round]]) -> int:
    if not all(done.delays for rounds in results.values() for done in rounds):
        return report("delay", passed=False, ratio=0, against="plain aiortc relay", samples=[0])
    relay_p50 = _median(results["relay"], 0.5)
    echo_times = relay_p50 / _median(results["echo"], 0.5)
    passthrough_times = relay_p50 / _median(results["passthrough"], 0.5)
    echo_p95 = _median(results["echo"], 0.95)
    passthrough_p95 = _median(results["passthrough"], 0.95)
    passed = (
        echo_p95 <= ECHO_P95
        and passthrough_p95 <= PASSTHROUGH_P95
        and echo_times >= ECHO_TIMES
        and passthrough_times >= PASSTHROUGH_TIMES
    )
    ratios = [
        ours.p50 / theirs.p50
        for ours, theirs in zip(results["passthrough"], results["relay"], strict=True)
    ]
    return report(
        "delay",
        passed=passed,
        ratio=1 / passthrough_times,
        against="plain aiortc relay (decode, MediaRelay, encode), p50",
        samples=ratios,
        echo_p50_ms=round(_median(results["echo"], 0.5), 2),
        echo_p95_ms=round(echo_p95, 2),
        echo_max_ms=round(max(max(done.delays) for done in results["echo"]), 2),
        passthrough_p50_ms=round(_median(results["passthrough"], 0.5), 2),
        passthrough_p95_ms=round(passthrough_p95, 2),
        passthrough_max_ms=round(max(max(done.delays) for done in results["passthrough"]), 2),
        relay_p50_ms=round(relay_p50, 2),
        relay_over_echo=round(echo_times, 2),
        relay_over_passthrough=round(passthrough_times, 2),
        client_share_ms=round(
            2
            * statistics.median(
                own for rounds in results.values() for r in rounds for own in r.own
            ),
            3,
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(measure(arguments.seconds, arguments.rounds)))


if __name__ == "__main__":
    main()
