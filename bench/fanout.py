"""What a packet to a viewer costs the process that sends it, for crowds of every size.

Viewers are connected by ICE, DTLS and SRTP, drained by C on the other core, and send a
receiver report each second and a NACK now and then. The same frames of 720p30 at 2 Mbit/s are
sent in turn by our Egress and by the limit: a C loop of the bench's own in the same process,
through the same socket and keys, that does nothing else. Beside them our pure Python, and
aiortc's own sender, at as many viewers as they carry.

``python -m bench.fanout`` takes some counts, ``--full`` all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench.crowd import built
from bench.crowd.audience import Audience
from bench.crowd.sender import TICKS
from bench.report import percentile, report
from bench.servers import Server, cpu_share, server

COUNTS: Final = (10, 100, 200)
FULL: Final = (1, 10, 50, 100, 200, 400, 800)
CARRIED: Final = {False: (50,), True: (10, 50)}
"""Viewers that aiortc and pure Python are compared at; by whether it is the full form."""
MANY: Final = 200
"""From so many viewers on the bars hold."""
OVER_LIMIT: Final = 1.25
PYTHON_CHEAPER: Final = 1.5
DELIVERED: Final = 0.999
LAG_P50: Final = 6e-3
LAG_P99: Final = 30e-3
BATCHES: Final = (16, 128)
"""Messages of one call of the limit; it counts with the cheaper one."""
PAUSE: Final = 1.5
"""Seconds after a window of the limit, which reads nothing: each viewer is heard again."""
SETTLED: Final = 2.5
"""Seconds after which media flows to all."""


@dataclass(slots=True)
class Row:
    """One sender at one number of viewers; a figure a window."""

    what: str
    viewers: int
    costs: list[float] = field(default_factory=list)  # CPU seconds a packet
    sending: list[float] = field(default_factory=list)  # of these in sending itself
    shares: list[float] = field(default_factory=list)  # CPU seconds a second
    heard: list[float] = field(default_factory=list)  # datagrams of a viewer, a second
    delivered: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)  # seconds, one a frame

    @property
    def cost(self) -> float:
        return statistics.median(self.costs)

    def told(self) -> dict[str, Any]:
        costs = sorted(round(1e6 * cost, 3) for cost in self.costs)
        told: dict[str, Any] = {
            "what": self.what,
            "viewers": self.viewers,
            "us_a_packet": round(1e6 * self.cost, 3),
            "spread": [costs[0], costs[-1]],
            "cpu": round(statistics.median(self.shares), 4),
            "delivered": round(min(self.delivered), 5),
        }
        if self.sending:
            told["us_sending"] = round(1e6 * statistics.median(self.sending), 3)
        if self.heard:
            told["heard"] = round(statistics.median(self.heard), 1)
        if self.lags:
            told["lag_ms"] = [round(1e3 * percentile(self.lags, s), 2) for s in (0.5, 0.99)]
        return told


class Crowd:
    """A sending process and its viewers, joined."""

    def __init__(self, serving: Server, audience: Audience, http: aiohttp.ClientSession) -> None:
        self._serving = serving
        self._audience = audience
        self._http = http

    async def start(self) -> None:
        await self._post("start")
        await asyncio.sleep(SETTLED)
        async with self._http.get(f"{self._serving.url}/tracks") as response:
            offsets = await response.json()
        self._audience.align({int(ssrc): offset for ssrc, offset in offsets.items()})

    async def window(self, row: Row, seconds: float, batch: int = 0, *, bare: bool = False) -> None:
        """One window of our Egress, or of the limit with so many messages a call."""
        before = self._audience.counts()
        words = {"bare": 1} if bare else {}
        told = await self._post("window", seconds=seconds, batch=batch, **words)
        await asyncio.sleep(0.01)  # the last frame is on its way
        row.delivered.append(_delivered(before, self._audience.counts()))
        row.costs.append(told["cpu"] / max(told["sent"], 1))
        row.sending.append(told["sending"] / max(told["sent"], 1))
        row.shares.append(told["cpu"] / told["wall"])
        row.heard.append(told["heard"] / told["wall"] / row.viewers)
        frames = range(told["first"] * TICKS, told["last"] * TICKS, TICKS)
        row.lags += self._audience.lags(frames)

    async def watched(self, row: Row, seconds: float) -> None:
        """One window of a sender that cannot be told anything: what came is counted."""
        before = self._audience.counts()
        share = await cpu_share(self._serving.process, seconds)
        after = self._audience.counts()
        sent = sum(b - a for (a, _), (b, _) in zip(before, after, strict=True))
        row.delivered.append(_delivered(before, after))
        row.costs.append(share * seconds / max(sent, 1))
        row.shares.append(share)

    def check(self) -> None:
        """Raises: RuntimeError, media does not reach somebody."""
        watchers, started = len(self._audience.watchers), self._audience.started()
        if started < watchers:
            raise RuntimeError(f"media reaches {started} of {watchers} viewers")

    async def _post(self, word: str, **query: float) -> Any:
        async with self._http.post(f"{self._serving.url}/{word}", params=query) as response:
            if response.status != 200:
                raise RuntimeError(f"the sender: {response.status} {await response.text()}")
            return await response.json() if word == "window" else None


def _delivered(before: Sequence[tuple[int, int]], after: Sequence[tuple[int, int]]) -> float:
    """Packets that came, of those that the sequence numbers say were sent."""
    pairs = list(zip(before, after, strict=True))
    sent = sum(b[0] - a[0] for a, b in pairs)
    return sum(b[1] - a[1] for a, b in pairs) / sent if sent else 0.0


@asynccontextmanager
async def crowd(
    library: Path, viewers: int, module: str, *words: str, feedback: bool = False
) -> AsyncIterator[Crowd]:
    """A sender in a process of its own, on one core, and ``viewers`` joined to it."""
    print(f"{viewers} viewers join {' '.join((module, *words[-1:]))} ...", file=sys.stderr)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})  # the sender inherits it, with all its threads
    async with server(module, *words) as serving, aiohttp.ClientSession() as http:
        os.sched_setaffinity(0, {cores[-1]})
        if not serving.url:
            raise RuntimeError("the sender did not start; what it said stands above")
        audience = Audience(library, viewers, feedback=feedback, sound=False)
        try:
            await audience.join(f"{serving.url}/whep")
            yield Crowd(serving, audience, http)
        finally:
            await audience.close()
            os.sched_setaffinity(0, cores)


async def ours(
    library: Path,
    viewers: int,
    seconds: float,
    rounds: int,
    *,
    python: bool,
    feedback: bool = False,
) -> list[Row]:
    """Rows of our Egress, and where it is native of the limit beside it.

    Args:
        feedback: viewers are told transport-wide numbers, and tell of them. Those of the limit
            likewise, since what is compared is sent to the same receivers; its ``bare`` row is of
            one that sends no numbers, and so hears of none.
    """
    row = Row("python" if python else "native", viewers)
    limits = [] if python else [Row(f"limit, {batch} a call", viewers) for batch in BATCHES]
    bare = Row("bare", viewers)
    word = ("--python",) if python else ()
    module = "bench.crowd.sender"
    async with crowd(library, viewers, module, str(library), *word, feedback=feedback) as joined:
        await joined.start()
        joined.check()
        for _ in range(rounds):
            await joined.window(row, seconds)
            for batch, limit in zip(BATCHES, limits, strict=False):
                await joined.window(limit, seconds, batch)
                await asyncio.sleep(PAUSE)
            if feedback:
                await joined.window(bare, seconds, BATCHES[0], bare=True)
                await asyncio.sleep(PAUSE)
    best = min(limits, key=lambda limit: limit.cost, default=None)
    if best is not None:
        best.what = "limit"
    found = [row] if best is None else [row, best]
    return [*found, bare] if feedback else found


async def theirs(library: Path, viewers: int, seconds: float, rounds: int) -> Row:
    row = Row("aiortc", viewers)
    async with crowd(library, viewers, "bench.plain", "send") as joined:
        await asyncio.sleep(SETTLED)
        joined.check()
        for _ in range(rounds):
            await joined.watched(row, seconds)
    return row


def _say(row: Row) -> None:
    told = row.told()
    lag = f", lag {told['lag_ms'][0]} ms, p99 {told['lag_ms'][1]}" if "lag_ms" in told else ""
    print(
        f"  {row.viewers:4} {row.what:8} {told['us_a_packet']:7.3f} us a packet "
        f"{told['spread']} (sending {told.get('us_sending', '-')}), "
        f"CPU {told['cpu']:.3f}, delivered {told['delivered']:.5f}{lag}, "
        f"hears {told.get('heard', '-')} a viewer and second",
        flush=True,
    )


async def measure(arguments: argparse.Namespace, library: Path) -> int:
    full: bool = arguments.full
    counts = arguments.viewers or (FULL if full else COUNTS)
    seconds, rounds = arguments.seconds, arguments.rounds
    rows: list[Row] = []

    def keep(found: list[Row]) -> None:
        for row in found:
            _say(row)
        rows.extend(found)

    for viewers in counts:
        told = arguments.feedback
        keep(await ours(library, viewers, seconds, rounds, python=False, feedback=told))
    for viewers in () if arguments.viewers else CARRIED[full]:
        keep(await ours(library, viewers, seconds, rounds, python=True))
        keep([await theirs(library, viewers, seconds, rounds)])
    return judge(rows)


def judge(rows: list[Row]) -> int:
    by = {(row.what, row.viewers): row for row in rows}
    over = {
        row.viewers: [a / b for a, b in zip(row.costs, by["limit", row.viewers].costs, strict=True)]
        for row in rows
        if row.what == "native"
    }
    ratios = {viewers: statistics.median(samples) for viewers, samples in over.items()}
    many = [viewers for viewers in ratios if viewers >= MANY] or [max(ratios)]
    worst = max(many, key=lambda viewers: ratios[viewers])
    cheaper = [row.cost / by["python", row.viewers].cost for row in rows if row.what == "aiortc"]
    lagging = by.get(("native", MANY))
    bars = {f"{n} viewers: {OVER_LIMIT:g} of the limit": ratios[n] <= OVER_LIMIT for n in many}
    bars[f"aiortc over pure Python: {PYTHON_CHEAPER:g}"] = all(
        share >= PYTHON_CHEAPER for share in cheaper
    )
    for row in rows:
        if row.what == "native":
            held = min(row.delivered) >= DELIVERED
            bars[f"{row.viewers} viewers: {DELIVERED:.1%} delivered"] = held
    if lagging is not None:
        for share, bar in ((0.5, LAG_P50), (0.99, LAG_P99)):
            held = percentile(lagging.lags, share) <= bar
            bars[f"the last viewer's lag, p{100 * share:.0f}: {1e3 * bar:g} ms"] = held
    return report(
        "fanout",
        bars=bars,
        ratio=ratios[worst],
        against=f"a C loop that only sends the same to the same {worst} viewers, CPU a packet",
        samples=over[worst],
        over_limit={str(viewers): round(ratio, 3) for viewers, ratio in ratios.items()},
        aiortc_over_python=[round(share, 2) for share in cheaper],
        rows=[row.told() for row in rows],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="all counts")
    parser.add_argument("--viewers", type=int, nargs="+", help="only these, ours and the limit")
    parser.add_argument(
        "--feedback",
        action="store_true",
        help="viewers answer transport-wide numbers ten times a second, as browsers do",
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of a window")
    parser.add_argument("--rounds", type=int, default=3, help="windows of each sender")
    arguments = parser.parse_args()
    return built.run(lambda library: measure(arguments, library))


if __name__ == "__main__":
    sys.exit(main())
