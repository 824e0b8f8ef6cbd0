"""What a packet to a viewer costs the process that sends it, for crowds of every size.

Viewers are connected by ICE, DTLS and SRTP and drained by C on the other core. What they tell is
what they saw: reports, transport-wide feedback ten times a second, and NACKs of what is missing;
each throws one packet in a thousand of its picture away, whoever sends, so that there is some.
The same units of 720p30 at 2 Mbit/s and Opus are sent in turn by our Egress and by the limit: a C
loop of the bench's own in the same process, through the same socket and keys, that does nothing
else. Beside them our pure Python, and aiortc's own sender, at as many viewers as they carry.

``python -m bench.fanout`` takes some counts. ``--whole`` is what is asked of it: 1 to 800 viewers,
with aiortc and pure Python at 10 and 50; it takes under twelve minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import Any, Final

import aiohttp

from bench.crowd import built
from bench.crowd.audience import THROWN, Audience
from bench.crowd.sender import RATE, TICKS
from bench.report import percentile, report
from bench.servers import Server, apart, cpu_share
from bench.source import add_sound, words_of

COUNTS: Final = (10, 100, 200)
WHOLE: Final = (1, 10, 50, 100, 200, 400, 800)
CARRIED: Final = {False: (50,), True: (10, 50)}
"""Viewers that aiortc and pure Python are compared at; by whether it is the whole form."""
SECONDS: Final = {False: 4.0, True: 3.0}
MANY: Final = 200
"""From so many viewers on the bars hold."""
OVER_LIMIT: Final = 1.25
PYTHON_CHEAPER: Final = 1.5
DELIVERED: Final = 0.999
PACE: Final = 0.97
"""Of the frames that are due in a window's time: a sender that is late by half a second and more
lets the rest go. Held against up to MANY viewers, whose lag is judged; told of more: not every
machine's core sends them all in time, and what a packet costs does not depend on it."""
LAG_P50: Final = 6e-3
LAG_P99: Final = 30e-3
BATCHES: Final = (16, 128)
"""Messages of one call of the limit; it counts with the cheaper one."""
PAUSE: Final = 1.5
"""Seconds after a window of the limit, which reads nothing: each viewer is heard again."""
SETTLED: Final = 2.5
"""Seconds after which media flows to all."""
ON_ITS_WAY: Final = 0.2
"""Seconds after a window in which what was sent in it is read."""


@dataclass(slots=True)
class Row:
    """One sender at one number of viewers; a figure a window."""

    what: str
    viewers: int
    costs: list[float] = field(default_factory=list)  # CPU seconds a packet
    sending: list[float] = field(default_factory=list)  # of these in sending itself
    shares: list[float] = field(default_factory=list)  # CPU seconds a second
    heard: list[float] = field(default_factory=list)  # datagrams of a viewer, a second
    delivered: list[float] = field(default_factory=list)  # of what was due to all
    due: int = 0  # packets of a viewer, in all windows
    came: list[int] = field(default_factory=list)  # ... to each viewer
    paces: list[float] = field(default_factory=list)  # frames that left, of those of the time
    lags: list[float] = field(default_factory=list)  # seconds, one a frame
    dropped: int = 0  # frames that did not come to all
    again: list[int] = field(default_factory=lambda: [0, 0])  # asked for, came
    reading: list[float] = field(default_factory=list)  # CPU seconds of the viewers, a packet

    @property
    def cost(self) -> float:
        return statistics.median(self.costs)

    @property
    def worst(self) -> float:
        """Of what was due to the viewer that got the least, the share that came."""
        return min(self.came, default=0) / self.due if self.due else min(self.delivered)

    def told(self) -> dict[str, Any]:
        costs = sorted(round(1e6 * cost, 3) for cost in self.costs)
        told: dict[str, Any] = {
            "what": self.what,
            "viewers": self.viewers,
            "us_a_packet": round(1e6 * self.cost, 3),
            "spread": [costs[0], costs[-1]],
            "cpu": round(statistics.median(self.shares), 4),
            "delivered": round(min(self.delivered), 5),
            "worst_viewer": round(self.worst, 5),
            "asked_again": self.again[0],
            "came_again": self.again[1],
            "us_reading": round(1e6 * statistics.median(self.reading), 3),
        }
        if self.paces:
            told["pace"] = round(min(self.paces), 3)
        if self.sending:
            told["us_sending"] = round(1e6 * statistics.median(self.sending), 3)
        if self.heard:
            told["heard"] = round(statistics.median(self.heard), 1)
        if self.lags:
            told["lag_ms"] = [round(1e3 * percentile(self.lags, s), 2) for s in (0.5, 0.99)]
            told["frames"], told["frames_not_to_all"] = len(self.lags), self.dropped
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
        """One window of our Egress, or of the limit with so many messages a call.

        What came is held against what was due, whether or not it was sent: a viewer that was
        paused, or forgotten, lacks it.
        """
        words = {"bare": 1} if bare else {}
        with self._reading(row):
            told = await self._post("window", seconds=seconds, batch=batch, **words)
            await asyncio.sleep(ON_ITS_WAY)
        sent_to = {int(ssrc): (first, sent) for ssrc, (first, sent) in told["sent_to"].items()}
        came = [min(each, told["due"]) for each in self._audience.came(sent_to)]
        row.due += told["due"]
        row.came = [a + b for a, b in zip(row.came or [0] * len(came), came, strict=True)]
        row.delivered.append(sum(came) / max(told["due"] * len(came), 1))
        row.costs.append(told["cpu"] / max(told["sent"], 1))
        row.sending.append(told["sending"] / max(told["sent"], 1))
        row.shares.append(told["cpu"] / told["wall"])
        row.paces.append((told["last"] - told["first"]) / (told["wall"] * RATE))
        row.heard.append(told["heard"] / told["wall"] / row.viewers)
        frames = range(told["first"] * TICKS, told["last"] * TICKS, TICKS)
        lags, dropped = self._audience.lags(frames)
        row.lags += lags
        row.dropped += dropped

    async def watched(self, row: Row, seconds: float) -> None:
        """One window of a sender that cannot be told anything: what came is counted, and held
        against the numbers of what came."""
        before = self._audience.counts(), self._audience.packets()
        with self._reading(row):
            share = await cpu_share(self._serving.process, seconds)
        after = self._audience.counts(), self._audience.packets()
        row.delivered.append(_delivered(before[0], after[0]))
        row.costs.append(share * seconds / max(after[1] - before[1], 1))
        row.shares.append(share)

    @contextmanager
    def _reading(self, row: Row) -> Iterator[None]:
        """What the viewers' process spends meanwhile, and what they ask for."""
        packets, again, began = self._audience.packets(), self._audience.resent(), process_time()
        yield
        used = process_time() - began
        row.reading.append(used / max(self._audience.packets() - packets, 1))
        for at, now in enumerate(self._audience.resent()):
            row.again[at] += now - again[at]

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
    """Of the viewer that got the least: packets of its picture that came, of those that the
    sequence numbers say were sent."""
    pairs = zip(before, after, strict=True)
    return min((b[1] - a[1]) / (b[0] - a[0]) if b[0] > a[0] else 0.0 for a, b in pairs)


@asynccontextmanager
async def crowd(
    library: Path, viewers: int, module: str, *words: str, feedback: bool, sound: bool
) -> AsyncIterator[Crowd]:
    """A sender in a process of its own, on one core, and ``viewers`` joined to it."""
    print(f"{viewers} viewers join {module} ...", file=sys.stderr)
    async with apart(module, *words) as serving, aiohttp.ClientSession() as http:
        if not serving.url:
            raise RuntimeError("the sender did not start; what it said stands above")
        audience = Audience(library, viewers, feedback=feedback, sound=sound)
        try:
            await audience.join(f"{serving.url}/whep")
            yield Crowd(serving, audience, http)
        finally:
            await audience.close()


@dataclass(frozen=True, slots=True)
class Form:
    """How each row is measured.

    Attributes:
        feedback: viewers are told transport-wide numbers, and tell of them. Those of the limit
            likewise, since what is compared is sent to the same receivers.
        bare: beside it a row of a limit that sends no numbers, and so hears of none.
    """

    seconds: float
    rounds: int
    feedback: bool
    bare: bool
    sound: bool


async def ours(library: Path, viewers: int, form: Form, *, python: bool) -> list[Row]:
    """Rows of our Egress, and where it is native of the limit beside it."""
    row = Row("python" if python else "native", viewers)
    limits = [] if python else [Row(f"limit, {batch} a call", viewers) for batch in BATCHES]
    bare = Row("bare", viewers)
    words = (*(("--python",) if python else ()), *words_of(form.sound))
    told = {"feedback": form.feedback, "sound": form.sound}
    async with crowd(library, viewers, "bench.crowd.sender", str(library), *words, **told) as all_:
        await all_.start()
        all_.check()
        for _ in range(form.rounds):
            await all_.window(row, form.seconds)
            for batch, limit in zip(BATCHES, limits, strict=False):
                await all_.window(limit, form.seconds, batch)
                await asyncio.sleep(PAUSE)
            if limits and form.bare:
                await all_.window(bare, form.seconds, BATCHES[0], bare=True)
                await asyncio.sleep(PAUSE)
    best = min(limits, key=lambda limit: limit.cost, default=None)
    if best is not None:
        best.what = "limit"
    found = [row] if best is None else [row, best]
    return [*found, bare] if bare.costs else found


async def theirs(library: Path, viewers: int, form: Form) -> list[Row]:
    row = Row("aiortc", viewers)
    told = {"feedback": form.feedback, "sound": form.sound}
    async with crowd(library, viewers, "bench.plain", "send", **told) as joined:
        await asyncio.sleep(SETTLED)
        joined.check()
        for _ in range(form.rounds):
            await joined.watched(row, form.seconds)
    return [row]


def _say(row: Row) -> None:
    told = row.told()
    lag = f", lag {told['lag_ms'][0]} ms, p99 {told['lag_ms'][1]}" if "lag_ms" in told else ""
    print(
        f"  {row.viewers:4} {row.what:8} {told['us_a_packet']:7.3f} us a packet "
        f"{told['spread']} (sending {told.get('us_sending', '-')}), "
        f"CPU {told['cpu']:.3f}, delivered {told['delivered']:.5f} (to one at least "
        f"{told['worst_viewer']:.5f}){lag}, asked for {told['asked_again']} again, "
        f"hears {told.get('heard', '-')} a viewer and second",
        flush=True,
    )


async def measure(arguments: argparse.Namespace, library: Path) -> int:
    whole: bool = arguments.whole
    counts = arguments.viewers or (WHOLE if whole else COUNTS)
    seconds = arguments.seconds or SECONDS[whole]
    form = Form(*(seconds, arguments.rounds, arguments.feedback, arguments.bare, arguments.sound))
    rows: list[Row] = []
    failed: list[str] = []

    async def keep(viewers: int, what: str, measuring: Awaitable[list[Row]]) -> None:
        """One that does not come to its end fails, and the others are looked at all the same."""
        try:
            found = await measuring
        except (RuntimeError, ExceptionGroup) as error:
            print(f"  {viewers:4} {what}: {error!r}", flush=True)
            failed.append(f"{viewers} viewers, {what}: to the end")
            return
        for row in found:
            _say(row)
        rows.extend(found)

    for viewers in counts:
        await keep(viewers, "native", ours(library, viewers, form, python=False))
    for viewers in () if arguments.viewers else CARRIED[whole]:
        await keep(viewers, "python", ours(library, viewers, form, python=True))
        await keep(viewers, "aiortc", theirs(library, viewers, form))
    return judge(rows, form, failed)


def judge(rows: list[Row], form: Form, failed: Sequence[str] = ()) -> int:
    """A bar that nothing was measured for is told as not run.

    Args:
        failed: what did not come to its end.
    """
    by = {(row.what, row.viewers): row for row in rows}
    over = {
        row.viewers: [a / b for a, b in zip(row.costs, by["limit", row.viewers].costs, strict=True)]
        for row in rows
        if row.what == "native"
    }
    ratios = {viewers: statistics.median(samples) for viewers, samples in over.items()}
    many = [viewers for viewers in ratios if viewers >= MANY]
    worst = max(many or [max(ratios, default=0)], key=lambda viewers: ratios.get(viewers, 0.0))
    cheaper = [
        row.cost / by["python", row.viewers].cost
        for row in rows
        if row.what == "aiortc" and ("python", row.viewers) in by
    ]
    lagging = by.get(("native", MANY))
    bars: dict[str, bool | None] = {
        f"{n} viewers: {OVER_LIMIT:g} of the limit": ratios[n] <= OVER_LIMIT for n in many
    }
    bars |= dict.fromkeys(failed, False)
    if not many:
        bars[f"{MANY} viewers and more: {OVER_LIMIT:g} of the limit"] = None
    bars[f"aiortc over pure Python: {PYTHON_CHEAPER:g}"] = (
        min(cheaper) >= PYTHON_CHEAPER if cheaper else None
    )
    for row in rows:
        if row.what == "native":
            bars[f"{row.viewers} viewers: {DELIVERED:.1%} delivered to each"] = (
                row.worst >= DELIVERED
            )
            if row.viewers <= MANY:
                bars[f"{row.viewers} viewers: {PACE:.0%} of the pace"] = (
                    statistics.median(row.paces) >= PACE
                )
    for share, bar in ((0.5, LAG_P50), (0.99, LAG_P99)):
        held = None
        if lagging is not None:
            held = bool(lagging.lags) and percentile(lagging.lags, share) <= bar
        bars[f"{MANY} viewers: the last one's lag, p{100 * share:.0f}: {1e3 * bar:g} ms"] = held
    return report(
        "fanout",
        bars=bars,
        ratio=ratios.get(worst, 0.0),
        against=f"a C loop that only sends the same to the same {worst} viewers, CPU a packet",
        samples=over.get(worst, [0.0]),
        sound=form.sound,
        feedback=form.feedback,
        thrown_away=f"1 in {THROWN}",
        over_limit={str(viewers): round(ratio, 3) for viewers, ratio in ratios.items()},
        aiortc_over_python=[round(share, 2) for share in cheaper],
        rows=[row.told() for row in rows],
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--whole", "--full", action="store_true", help="all counts")
    parser.add_argument("--viewers", type=int, nargs="+", help="only these, ours and the limit")
    parser.add_argument(
        "--feedback",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="viewers answer transport-wide numbers ten times a second, as browsers do",
    )
    parser.add_argument(
        "--bare", action="store_true", help="also a limit that sends no transport-wide numbers"
    )
    parser.add_argument("--seconds", type=float, help="of a window; 4, and 3 in the whole form")
    parser.add_argument("--rounds", type=int, default=3, help="windows of each sender")
    add_sound(parser)
    arguments = parser.parse_args()
    return built.run(lambda library: measure(arguments, library))


if __name__ == "__main__":
    sys.exit(main())
