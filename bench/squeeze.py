"""What Chromium sees on a bad link: one that loses, and one that becomes too small for a while.

The studio's player watches a live stream (``passthrough``, 720p30 at 2 Mbit/s and sound) of our
whole network through a link of 30 ms round trip that a relay of datagrams makes. For 20 s the
link loses 3 % both ways; later it carries 500 kbit/s for 20 s, with a queue of 0.3 s; then all
again. The losses are to cost no picture and freeze none for 0.4 s, the squeeze no sound, and the
picture is to be at its full rate soon after: held against the same viewer when nothing was wrong.

``python -m bench.squeeze [--rounds N]``
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from math import inf
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from bench.report import report
from bench.source import make_clip
from relay.cli.network import running_network
from tests.browser import Tab, chromium, tab
from tests.live import publishing

SCRIPT: Final = Path(__file__).with_suffix(".js")
DELAY: Final = 0.015
"""Seconds one way."""
NARROW: Final = 500_000.0
"""Bits a second."""
QUEUE: Final = 0.3
"""Seconds that a datagram waits at most."""
SETTLED: Final = 5.0
BEFORE: Final = 4.0
LOSS: Final = 0.03
LOSING: Final = 20.0
CALM: Final = 6.0
SQUEEZE: Final = 20.0
AFTER: Final = 12.0
SECOND: Final = 1.0
FULL: Final = 0.95
"""Of the pictures a second before."""
SHOWN: Final = 0.995
"""Of them under loss."""
FREEZE: Final = 0.4
"""Seconds that the longest freeze may be while packets are lost: asked for up to 5 %."""
BACK: Final = 3.0
SOUND: Final = 0.9
"""Share of the samples of the squeeze that are of the sound itself, none made up."""


class NarrowLink:
    """Stands between one viewer and a UDP port.

    Attributes:
        rate: bits a second to the viewer, None: any.
        loss: share of the datagrams of either way that are lost.
        lost: datagrams to the viewer that found the queue full.
    """

    def __init__(self, seed: int) -> None:
        self.rate: float | None = None
        self.loss = 0.0
        self.lost = 0
        self._random = Random(seed)
        self._loop = asyncio.get_running_loop()
        self._near = self._socket()
        self._near.bind(("127.0.0.1", 0))
        self._near_peer: Any = None
        self._far: socket.socket | None = None
        self._free_at = 0.0
        self._loop.add_reader(self._near.fileno(), self._from_viewer)

    @staticmethod
    def _socket() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        return made

    def through(self, answer: str) -> str:
        """The answer with this link as the only way there; a former viewer's is given up."""
        lines = answer.split("\r\n")
        found = [at for at, line in enumerate(lines) if line.startswith("a=candidate")]
        first = next(at for at in found if " udp " in lines[at].lower())
        words = lines[first].split(" ")
        self._connect(words[4], int(words[5]))
        words[4:6] = self._near.getsockname()[0], str(self._near.getsockname()[1])
        lines[first] = " ".join(words)
        return "\r\n".join(line for at, line in enumerate(lines) if at == first or at not in found)

    def _connect(self, host: str, port: int) -> None:
        self._leave()
        self._near_peer = None
        self._far = self._socket()
        self._far.connect((host, port))
        self._loop.add_reader(self._far.fileno(), self._from_gateway)

    def _from_viewer(self) -> None:
        for _ in range(64):
            try:
                data, self._near_peer = self._near.recvfrom(2048)
            except BlockingIOError:
                return
            if self._far is not None and self._random.random() >= self.loss:
                self._loop.call_later(DELAY, self._send, self._far, data, None)

    def _from_gateway(self) -> None:
        for _ in range(64):
            try:
                data = self._far.recv(2048) if self._far is not None else b""
            except (BlockingIOError, ConnectionRefusedError):
                return
            if self._random.random() < self.loss:
                continue
            now = time.monotonic()
            if self.rate is None:
                self._free_at = now
            elif self._free_at - now > QUEUE:
                self.lost += 1
                continue
            else:
                self._free_at = max(now, self._free_at) + len(data) * 8 / self.rate
            wait = self._free_at - now + DELAY
            self._loop.call_later(wait, self._send, self._near, data, self._near_peer)

    @staticmethod
    def _send(sock: socket.socket, data: bytes, address: Any) -> None:
        try:
            if address is None:
                sock.send(data)
            else:
                sock.sendto(data, address)
        except OSError:
            return  # as lost on the way; the link may be given up by now

    def _leave(self) -> None:
        if self._far is not None:
            self._loop.remove_reader(self._far.fileno())
            self._far.close()
            self._far = None

    def close(self) -> None:
        self._leave()
        self._loop.remove_reader(self._near.fileno())
        self._near.close()


class Sample(NamedTuple):
    """Counters of the browser at a moment: seconds, pictures, samples of sound, PLIs."""

    at: float
    pictures: int
    frozen: float
    sound: int
    concealed: int
    asked: int


class Round(NamedTuple):
    """What a viewer saw.

    Attributes:
        before, losing, within, after: pictures a second; ``after``: from BACK on.
        back: seconds from the end of the squeeze to the begin of the first full second.
        sound: share of the samples in the squeeze that were not made up.
        frozen: seconds that the browser calls a freeze while packets were lost.
        longest: of them the most at once.
        asked: key frames that it asked for meanwhile.
    """

    before: float
    losing: float
    within: float
    after: float
    back: float
    sound: float
    frozen: float
    longest: float
    asked: int


def between(samples: Sequence[Sample], begin: float, end: float) -> tuple[Sample, Sample]:
    chosen = [sample for sample in samples if begin <= sample.at <= end]
    return chosen[0], chosen[-1]


def rate(samples: Sequence[Sample], begin: float, end: float) -> float:
    first, last = between(samples, begin, end)
    return (last.pictures - first.pictures) / (last.at - first.at)


def longest_freeze(samples: Sequence[Sample], begin: float, end: float) -> float:
    """The browser adds a freeze to their sum when it is over: each step of that is one of them, or
    two that ended within a tenth of a second, which count as one."""
    chosen = [sample for sample in samples if begin <= sample.at <= end]
    return max((b.frozen - a.frozen for a, b in pairwise(chosen)), default=0.0)


def judged(samples: Sequence[Sample], lossy: float, began: float, ended: float) -> Round:
    """
    Args:
        lossy: when packets began to be lost; ``began`` and ``ended``: of the squeeze.
    """
    before = rate(samples, lossy - BEFORE, lossy)
    starts = [at for at, *_ in samples if ended <= at <= samples[-1].at - SECOND]
    full = (at for at in starts if rate(samples, at, at + SECOND) >= FULL * before)
    first, last = between(samples, began, ended)
    good, bad = between(samples, lossy, lossy + LOSING + CALM)
    sound = last.sound - first.sound
    return Round(
        before,
        # The browser's buffer grows with the losses, and is what it was when they are long over.
        rate(samples, lossy, lossy + LOSING + CALM),
        rate(samples, began, ended),
        rate(samples, ended + BACK, samples[-1].at),
        next(full, inf) - ended,
        1 - (last.concealed - first.concealed) / sound if sound else 0.0,
        bad.frozen - good.frozen,
        longest_freeze(samples, lossy, lossy + LOSING + CALM),
        bad.asked - good.asked,
    )


async def one_round(viewer: Tab, link: NarrowLink, path: str) -> Round:
    await viewer.page.evaluate(f"squeeze.watch('{path}')")
    await asyncio.sleep(SETTLED + BEFORE)
    lossy, link.loss = time.time(), LOSS
    await asyncio.sleep(LOSING)
    link.loss = 0.0
    await asyncio.sleep(CALM)
    began, link.rate = time.time(), NARROW
    await asyncio.sleep(SQUEEZE)
    ended, link.rate = time.time(), None
    await asyncio.sleep(AFTER)
    told = await viewer.page.evaluate("squeeze.told()")
    await viewer.page.evaluate("squeeze.stop()")
    if told["lost"] is not None:
        raise RuntimeError(f"the viewer lost its connection: {told['lost']}")
    return judged([Sample(**each) for each in told["samples"]], lossy, began, ended)


@asynccontextmanager
async def narrowed(browser: Any, url: str, seed: int) -> AsyncIterator[tuple[Tab, NarrowLink]]:
    """A new page of the studio behind a link of its own."""
    link = NarrowLink(seed)
    try:
        async with tab(browser, url) as viewer:
            await viewer.page.expose_function("through", link.through)
            await viewer.page.evaluate(SCRIPT.read_text())
            yield viewer, link
    finally:
        link.close()


async def measure(rounds: int) -> int:
    print("making the clip", flush=True)
    clip = make_clip(audio=True)
    found: list[Round] = []
    with tempfile.TemporaryDirectory() as folder:
        async with (
            running_network(Path(folder) / "log") as ready,
            publishing(f"{ready['gateway']['url']}/whip/bench", clip, model="passthrough"),
            chromium() as browser,
        ):
            for number in range(rounds):
                async with narrowed(browser, ready["studio"], number) as (viewer, link):
                    seen = await one_round(viewer, link, "/whep/bench")
                found.append(seen)
                print(
                    f"round {number + 1}, load {os.getloadavg()[0]:.2f}: "
                    f"{seen.before:.1f} pictures a second, {seen.losing:.1f} with 3 % lost, "
                    f"frozen {seen.frozen:.2f} s, {seen.longest:.2f} at once, "
                    f"{seen.asked} key frames asked for; "
                    f"{seen.within:.1f} in the squeeze, "
                    f"full again after {seen.back:.1f} s, then {seen.after:.1f}; "
                    f"sound {seen.sound:.1%}, "
                    f"{link.lost} datagrams lost",
                    flush=True,
                )
    back = [seen.back for seen in found]
    sound = [seen.sound for seen in found]
    shown = [seen.losing / seen.before for seen in found]
    ratios = [seen.after / seen.before for seen in found]
    whole = statistics.median(shown) >= SHOWN
    bars = {
        f"pictures in the loss: {SHOWN:g} of before": whole,
        f"no freeze of {FREEZE:g} s in the loss": max(seen.longest for seen in found) <= FREEZE,
        f"back in {BACK:g} s": max(back) <= BACK,
        f"sound throughout: {SOUND:g}": min(sound) >= SOUND,
        f"full rate afterwards: {FULL:g}": min(ratios) >= FULL,
    }
    return report(
        "squeeze",
        bars=bars,
        ratio=statistics.median(ratios),
        against="the same viewer's pictures a second on the good link",
        samples=ratios,
        shown=[round(value, 4) for value in shown],
        frozen_s=[round(seen.frozen, 2) for seen in found],
        longest_freeze_s=[round(seen.longest, 3) for seen in found],
        back_s=[round(value, 2) for value in back],
        sound=[round(value, 4) for value in sound],
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.squeeze",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3)
    return asyncio.run(measure(parser.parse_args().rounds))


if __name__ == "__main__":
    sys.exit(main())
