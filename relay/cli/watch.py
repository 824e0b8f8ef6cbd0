"""``relay watch URL --viewers N``: viewers of one stream, to see what a gateway bears."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import uvloop
from rich.console import Console

from relay.cli import address, crowd, descriptors
from relay.cli.crowd import ASKING, LEAVING, Request
from relay.cli.lookout import Place, check_kind, hint, look, state_now
from relay.cli.role import StopSignals
from relay.cli.watched import Glance, Told, in_figures, merged, table
from relay.errors import PeerError

__all__ = ["Request", "run"]

MAX_VIEWERS: Final = 5000
EACH: Final = 200
"""Viewers of one process: about half a core where each gets 2 Mbit/s."""
OFTEN: Final = 10
"""Seconds of a line each; then one in five."""
MAX_LINE: Final = 4 << 20
GATHERED: Final = 0.1
"""Seconds in which those that are lost for one reason become one line."""


def run(request: Request) -> int:
    """Watch, and tell what was seen; 0 where every viewer was served to the end.

    Raises:
        ConfigError: no http(s) address, one for something else, or no certificates.
        PeerError: nobody could join, with the reason.
    """
    address.check(request.url)
    check_kind(request.url, "whep")
    request.tls()
    descriptors.allow_all()
    told = uvloop.run(_watch(request))
    if request.as_json:
        print(json.dumps(in_figures(told)))
    else:
        Console(width=None if sys.stdout.isatty() else 100).print(table(told))
    if told.why:
        print(f"error: {told.why}", file=sys.stderr, flush=True)
    return 1 if told.why else 0


async def _watch(request: Request) -> Told:
    asked = StopSignals().asked
    shares = parts(request.viewers, os.cpu_count() or 1)
    lines = _Lines(request)
    saying = asyncio.create_task(_say_states(request))
    try:
        if len(shares) == 1:
            told = await crowd.watch(
                request,
                request.tls(),
                asked=asked,
                begin=_at_once,
                progress=lines.take,
                on_lost=lines.lost,
            )
        else:
            told = await _together(request, shares, asked, lines)
    finally:
        lines.close()
        saying.cancel()
        await asyncio.wait({saying})
    if not told.joined and not asked.is_set():
        why = told.reasons.most_common(1)[0][0]
        raise PeerError(f"nobody could join: {why}{hint(request.url, 'whep', why)}")
    place = Place.of(request.url)
    if told.without_picture and place is not None:
        told = told.with_state(await state_now(place, token=request.token, ssl=request.tls()))
    return told


async def _say_states(request: Request) -> None:
    """What the gateway says of the stream, at once and when it changes: that nobody publishes
    it, where its name is mistyped. Of one that is live and stays so, nothing."""
    place = Place.of(request.url)
    if place is None or request.as_json:
        return
    said = False

    def say(words: str) -> None:
        nonlocal said
        if said or not words.startswith("live"):
            said = True
            print(f"{place.name} is {words}", file=sys.stderr, flush=True)

    await look(place, say, token=request.token, ssl=request.tls())


def parts(viewers: int, cores: int) -> list[int]:
    """How many viewers each process has."""
    count = max(1, min(cores, -(-viewers // EACH)))
    return [viewers // count + (at < viewers % count) for at in range(count)]


async def _at_once() -> None:
    return


class _Lines:
    """What is said meanwhile: a line a second at first, then one in five, and one at once,
    of no second of its own, when viewers are lost or there again, or see nothing any more."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._last: dict[int, Glance] = {}
        self._second = 0
        self._told = (0, 0, 0, False, False)
        self._reasons = Counter[str]()
        self._saying: asyncio.TimerHandle | None = None

    def lost(self, why: str) -> None:
        """One viewer, and why. Said at once: by the next line it may be there again."""
        self._reasons[why] += 1
        if self._saying is None and not self._request.as_json:
            self._saying = asyncio.get_running_loop().call_later(GATHERED, self._say_lost)

    def _say_lost(self) -> None:
        self.close()
        for why, count in self._reasons.most_common(2):
            print(f"{count} of {self._request.viewers} {why}", file=sys.stderr, flush=True)
        self._reasons.clear()

    def close(self) -> None:
        if self._saying is not None:
            self._saying.cancel()
            self._saying = None

    def take(self, seen: Glance, process: int = 0) -> None:
        """The last one of each process makes a line, whenever the first one says something,
        and where one is early."""
        self._last[process] = seen
        if process and not seen.early:
            return
        glances = self._last.values()
        self._second += not seen.early
        joined, lost = sum(g.joined for g in glances), sum(g.lost for g in glances)
        still, again = sum(g.still for g in glances), sum(g.returned for g in glances)
        nothing = min((g.nothing for g in glances if g.joined), default=0.0)
        news = (joined, lost, again, still > 0, nothing > 0)
        due = self._second <= OFTEN or self._second % 5 == 0
        if seen.early or not due:
            due = news != self._told
        if self._request.as_json or not due:
            return
        again -= self._told[2]
        self._told = news
        rate, bitrate = sum(g.rate for g in glances), sum(g.bitrate for g in glances)
        words = [f"{again} joined again"] if again > 0 else []
        if nothing:
            words += [f"nothing for {nothing:.1f} s"]
        elif still:
            words += [f"{still} see nothing new"]
        words += [g.why for g in glances if g.why][:1]
        more = f" ({'; '.join(words)})" if words else ""
        second = "" if seen.early else f"{self._second} s: "  # each is told once
        print(
            f"{second}{joined} of {self._request.viewers} connected, {lost} lost, "
            f"{rate:.0f} pictures/s, {bitrate / 1e6:.1f} Mbit/s{more}",
            file=sys.stderr,
            flush=True,
        )


class _Part:
    """One process of several."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, lines: _Lines) -> None:
        self._number = number
        self._process = process
        self._lines = lines
        self.joined = asyncio.Event()
        self.told: Told | None = None

    @classmethod
    async def start(cls, number: int, request: Request, lines: _Lines) -> _Part:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay.cli.crowd"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=MAX_LINE,
        )
        part = cls(number, process, lines)
        part.say(asdict(request))
        return part

    def say(self, what: Any) -> None:
        stdin = self._process.stdin
        if stdin is not None and not stdin.is_closing():  # who has ended hears nothing
            stdin.write(json.dumps(what).encode() + b"\n")

    async def listen(self) -> None:
        """To its end.

        Raises:
            PeerError: it ended without a word.
        """
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            [(what, value)] = json.loads(line).items()
            if what == "glance":
                self._lines.take(Glance(**value), self._number)
            elif what == "lost":
                self._lines.lost(value)
            elif what == "joined":
                self.joined.set()
            else:
                self.told = Told.of(value)
        self.joined.set()
        if self.told is None:
            raise PeerError(f"a process of the crowd ended with {await self._process.wait()}")

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


async def _together(
    request: Request, shares: Sequence[int], asked: asyncio.Event, lines: _Lines
) -> Told:
    """Several processes join, and then watch at the same time."""
    found: list[_Part] = []
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(asked.wait())]
    try:
        for number, share in enumerate(shares):
            part = await _Part.start(number, replace(request, viewers=share), lines)
            found.append(part)  # at once: it is ended also where the next one does not start
        listening = [asyncio.create_task(part.listen()) for part in found]
        tasks += listening
        joining = asyncio.gather(*(part.joined.wait() for part in found))
        await asyncio.wait({tasks[0], joining}, return_when=asyncio.FIRST_COMPLETED)
        joining.cancel()
        for part in found:
            part.say("go")
        watching = asyncio.gather(*listening)
        await asyncio.wait({tasks[0], watching}, return_when=asyncio.FIRST_COMPLETED)
        if asked.is_set():
            for part in found:
                part.say("stop")
        async with asyncio.timeout(request.seconds + ASKING + LEAVING):
            await watching
        return merged([part.told for part in found if part.told is not None])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(part.end() for part in found))
