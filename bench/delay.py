"""How long a picture takes from WHIP in to WHEP out, and how long through a plain relay.

The same client sends the same clip (720p30, 2 Mbit/s, Opus) through three things in turn, a few
rounds: our whole network with ``echo`` (what the network itself costs), with
``passthrough`` (a worker decodes and encodes), and a plain aiortc relay (decode,
``MediaRelay``, encode). ``echo`` is measured three times: with one viewer, with a hundred
others beside it, who came before, and while ten viewers a second come and go. A picture is
told by the number in its pixels, read after the round, so that nothing but the sending and
the receiving runs beside what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.beside import beside
from bench.report import percentile, report
from bench.servers import LOOPBACK, server
from bench.source import add_sound, has_sound, make_clip
from relay.cli import clip
from relay.cli.network import running_network
from relay.cli.pace import pace
from relay.errors import ParseError
from relay.media.unit import VIDEO_CLOCK, AccessUnit
from relay.protocols.webrtc.client import WhepClient, WhipClient
from relay.worker.codec import Decoder

WARM_UP: Final = 2.0
"""Seconds at the beginning of a round that do not count: connecting, first key frames."""
VIEWERS: Final = 100
JOINS: Final = 10
"""A second."""
BARS: Final = {
    "echo": {"p50": 2.5, "p95": 5.0, "max": 25.0},
    "crowd": {"p95": 8.0},
    "joins": {"p95": 8.0},
    "passthrough": {"p95": 15.0},
}
"""Milliseconds: medians of the rounds, and of ``max`` the largest of all."""
TITLES: Final = {
    "relay": "relay",
    "echo": "echo",
    "crowd": f"echo, {VIEWERS} more viewers",
    "joins": f"echo, {JOINS} joins a second",
    "passthrough": "passthrough",
}


@dataclass(slots=True)
class Round:
    """One round through one thing. Times in ms."""

    delays: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    sent: int = 0
    sounds: int = 0
    """Packets of sound that came."""

    @property
    def p50(self) -> float:
        return percentile(self.delays, 0.5)

    @property
    def p95(self) -> float:
        return percentile(self.delays, 0.95)

    @property
    def max(self) -> float:
        return max(self.delays)


class Client:
    """Sends and receives; notes when, and how much of it was its own work."""

    def __init__(self) -> None:
        self.sent: dict[int, float] = {}
        self.came: list[tuple[AccessUnit, float]] = []
        self.own: list[float] = []
        self.sounds = 0
        self.begins = 0.0
        """Pictures sent before do not count."""
        self._number = 0

    def send(self, whip: WhipClient, unit: AccessUnit) -> None:
        if not unit.is_video:
            whip.send(unit)
            return
        began = time.monotonic()
        self.sent[self._number] = began
        self._number += 1
        whip.send(unit)
        self.own.append(time.monotonic() - began)

    def receive(self, unit: AccessUnit) -> None:
        if not unit.is_video:
            self.sounds += 1
            return
        now = time.monotonic()
        self.came.append((unit, now))
        self.own.append(now - unit.arrival)

    def result(self) -> Round:
        """Read the numbers; slow, so only when all is over."""
        done = Round(sent=len(self.sent), sounds=self.sounds)
        done.own = [seconds * 1000 for seconds in self.own]
        first = max(min(self.sent.values()) + WARM_UP, self.begins)
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


async def through(
    whip_url: str,
    whep_url: str,
    units: list[AccessUnit],
    *,
    late: bool,
    company: AbstractAsyncContextManager[Any] | None = None,
) -> Round:
    """Send the clip.

    Args:
        late: the viewer comes when there is something to see.
        company: who is there too; the viewer comes after them.
    """
    client, sound = Client(), has_sound(units)
    whip = await WhipClient.connect(whip_url, audio=sound, settings=LOOPBACK)
    try:
        sending = asyncio.create_task(pace(units, lambda unit: client.send(whip, unit)))
        if late or company is not None:
            await asyncio.sleep(0.5)
        async with company or nullcontext():
            whep = await WhepClient.connect(
                whep_url, on_unit=client.receive, audio=sound, settings=LOOPBACK
            )
            client.begins = time.monotonic() + WARM_UP / 2
            try:
                await sending
                await asyncio.sleep(0.5)
            finally:
                await whep.close()
    finally:
        await whip.close()
    return await asyncio.to_thread(client.result)


async def measure(seconds: int, echo_seconds: int, rounds: int, *, sound: bool) -> int:
    print(f"making {echo_seconds} s of 720p30 at 2 Mbit/s ...", flush=True)
    longest = await asyncio.to_thread(make_clip, max(seconds, echo_seconds), audio=sound)
    units = [unit for unit in longest if unit.pts < seconds * VIDEO_CLOCK]
    results: dict[str, list[Round]] = {name: [] for name in TITLES}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            async with server("bench.plain", "relay") as relay:
                whip, whep = f"{relay.url}/whip", f"{relay.url}/whep"
                _add(results, "relay", await through(whip, whep, units, late=True))
            log = Path(folder) / f"{number}.log"
            async with running_network(log, {"worker.slots": 1}) as ready:
                base = ready["gateway"]["url"]
                for name, model, company in (
                    ("echo", "echo", None),
                    ("crowd", "echo", partial(beside, "crowd", number=VIEWERS)),
                    ("joins", "echo", partial(beside, "joins", number=JOINS)),
                    ("passthrough", "passthrough", None),
                ):
                    whip, whep = f"{base}/whip/{name}?pipeline={model}", f"{base}/whep/{name}"
                    others = company(url=whep, sound=sound) if company is not None else None
                    sent = longest if name == "echo" else units
                    done = await through(whip, whep, sent, late=False, company=others)
                    _add(results, name, done)
    return _report(results, sound=sound)


def _add(results: dict[str, list[Round]], name: str, done: Round) -> None:
    results[name].append(done)
    _say(TITLES[name], done)


def _say(name: str, done: Round) -> None:
    if not done.delays:
        print(f"  {name:24} nothing came back of {done.sent} pictures", flush=True)
        return
    print(
        f"  {name:24} p50 {done.p50:6.2f}  p95 {done.p95:6.2f}  max {done.max:6.2f} ms"
        f"  ({len(done.delays)} pictures; the client's own share"
        f" {2 * statistics.median(done.own):.2f} ms; load {os.getloadavg()[0]:.1f})",
        flush=True,
    )


def figure_of(rounds: list[Round], figure: str) -> float:
    values = [float(getattr(done, figure)) for done in rounds]
    return max(values) if figure == "max" else statistics.median(values)


def _report(results: dict[str, list[Round]], *, sound: bool) -> int:
    against = "plain aiortc relay (decode, MediaRelay, encode), p50"
    rounds_of_all = [done for rounds in results.values() for done in rounds]
    if not all(done.delays and (done.sounds or not sound) for done in rounds_of_all):
        bars = {"pictures and sound came in each round": False}
        return report("delay", bars=bars, ratio=0, against=against, samples=[0])
    figures = {
        name: {figure: round(figure_of(rounds, figure), 2) for figure in ("p50", "p95", "max")}
        for name, rounds in results.items()
    }
    held = {
        f"{name} {figure}: {bar:g} ms": figures[name][figure] <= bar
        for name, bars in BARS.items()
        for figure, bar in bars.items()
    }
    ratios = [
        ours.p50 / theirs.p50
        for ours, theirs in zip(results["echo"], results["relay"], strict=True)
    ]
    return report(
        "delay",
        bars=held,
        ratio=statistics.median(ratios),
        against=against,
        samples=ratios,
        sound=sound,
        sounds={name: min(done.sounds for done in rounds) for name, rounds in results.items()},
        ms=figures,
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
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--echo-seconds", type=int, default=60, help="of echo by itself")
    parser.add_argument("--rounds", type=int, default=3)
    add_sound(parser)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        work = measure(given.seconds, given.echo_seconds, given.rounds, sound=given.sound)
        sys.exit(runner.run(work))


if __name__ == "__main__":
    main()
