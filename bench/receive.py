"""What a publisher costs the process that receives it: 720p30 at 2 Mbit/s and Opus, by WHIP.

Against SRTP opening alone: aiortc on uvloop that opens each packet, sound too, and throws it
away; and against aiortc's receive path, which decodes (at one publisher: it carries no more than
a few). CPU is counted a packet, so that a key frame more in one window does not tell.

Told beside it, and held against no bar: a C loop of the bench's own in the process that is
measured, which reads the same packets from the same socket in batches, opens each with libsrtp
and does nothing else. It shares our own way of reading: what is above it is ours alone.

``python -m bench.receive`` takes 1, 10 and 50 publishers of our own client, and then 10 that
number their packets transport-wide, as browsers do, and are told of their arrival. All are held
against the same bar. The receiver has a core of its own, and so have the publishers: on one core
together packets wait until a publisher has sent all that it has, and how often that is so is
chance.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from operator import truediv
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import aiohttp
import uvloop

from bench.numbers import offer_numbers
from bench.report import report
from bench.servers import LOOPBACK, apart, cpu_share, server
from bench.source import add_sound, endless, has_sound, make_clip
from relay.media.unit import VIDEO_CLOCK, AccessUnit
from relay.protocols.webrtc import client
from relay.protocols.webrtc.client import WhipClient
from relay.protocols.webrtc.fanout import OutgoingTrack, log_identifier
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.sendlog import SendLog

COUNTS: Final = (1, 10, 50)
NUMBERED: Final = 10
OVER_OPENING: Final = 1.25
OVER_DECODING: Final = 0.1
RATE: Final = 30
SOUNDS: Final = 50
DELIVERED: Final = 0.95
"""Access units of those that should come, below which a window says nothing."""
OPENED: Final = 0.8
"""The same of packets: one window has a key frame more than another."""
TRIES: Final = 4
BEHIND: Final = 0.2
"""Seconds that a publisher may be late."""
SETTLED: Final = 2.5
"""Seconds after which all pictures flow again: the C loop leaves a hole of a whole window."""


@dataclass(slots=True)
class Row:
    """One number of publishers; a figure a round."""

    publishers: int
    numbered: bool = False
    ours: list[float] = field(default_factory=list)  # CPU seconds a packet
    loop: list[float] = field(default_factory=list)  # of the C loop
    alone: list[float] = field(default_factory=list)  # of aiortc's SRTP
    shares: list[float] = field(default_factory=list)  # CPU seconds a second and publisher

    @property
    def name(self) -> str:
        numbered = " that number their packets" if self.numbered else ""
        return f"{self.publishers} publishers{numbered}"

    @property
    def ratios(self) -> list[float]:
        return [ours / alone for ours, alone in zip(self.ours, self.alone, strict=True)]

    def told(self) -> dict[str, Any]:
        return {
            "publishers": self.publishers,
            "numbered": self.numbered,
            "us_a_packet": round(1e6 * statistics.median(self.ours), 2),
            "opening_us": round(1e6 * statistics.median(self.alone), 2),
            "ratio": round(statistics.median(self.ratios), 2),
            "c_loop_us": round(1e6 * statistics.median(self.loop), 2),
            "over_c_loop": round(statistics.median(map(truediv, self.ours, self.loop)), 2),
            "cpu_a_publisher": round(statistics.median(self.shares), 5),
        }


class TooMuch(Exception):
    """The machine does not carry so many publishers."""


@asynccontextmanager
async def publishing(
    url: str, units: list[AccessUnit], number: int, *, numbered: bool = False
) -> AsyncIterator[None]:
    """So many publishers, each a little behind the one before."""
    sending: list[asyncio.Task[None]] = []
    async with AsyncExitStack() as stack:
        for _ in range(number):
            if numbered:
                whip = await _numbering(url, audio=has_sound(units))
            else:
                whip = await WhipClient.connect(url, audio=has_sound(units), settings=LOOPBACK)
            stack.push_async_callback(whip.close)
            sending.append(asyncio.create_task(_steady(units, whip)))
            await asyncio.sleep(1 / RATE / number)
        try:
            yield
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)


async def _steady(units: list[AccessUnit], whip: WhipClient) -> None:
    """Send the clip without end at its pace. Where the machine is too busy for so many, what is
    late is not made up for: others are to have their turn, and the window says that it lacks."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for unit in endless(units):
        wait = began + unit.pts / VIDEO_CLOCK - loop.time()
        if wait < -BEHIND:
            began -= wait
        await asyncio.sleep(max(wait, 0.0))
        whip.send(unit)


class _Numbered(Offering):
    def __init__(self, peers: Peers, *, send: bool, audio: bool = True) -> None:
        super().__init__(peers, send=send, audio=audio)
        offer_numbers(self)


async def _numbering(url: str, *, audio: bool) -> WhipClient:
    """A publisher that numbers its packets transport-wide."""
    with patch.object(client, "Offering", _Numbered):
        whip = await WhipClient.connect(url, audio=audio, settings=LOOPBACK)
    video, sound = whip.peer.video, whip.peer.audio
    identifier = None if video is None else log_identifier(video)
    if video is None or identifier is None:
        raise RuntimeError("transport-wide numbers were not agreed")
    log = SendLog(identifier)
    whip._video = OutgoingTrack(video, whip.peer, log)
    if sound is not None:
        whip._audio = OutgoingTrack(sound, whip.peer, log)
    return whip


async def window(url: str, seconds: float, *, alone: bool) -> dict[str, float]:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/window", params={"seconds": seconds, "alone": int(alone)}) as response,
    ):
        response.raise_for_status()
        told: dict[str, float] = await response.json()
        return told


async def receive(library: Path, units: list[AccessUnit], row: Row, seconds: float) -> float:
    """A window of each, into the row; the packets that came in a second of ours."""
    async with (
        apart("bench.opening.receiver", str(library)) as serving,
        publishing(f"{serving.url}/whip", units, row.publishers, numbered=row.numbered),
    ):
        loop = await window(serving.url, seconds, alone=True)
        due = row.publishers * (RATE + (SOUNDS if has_sound(units) else 0))
        ours = await _flowing(serving.url, seconds, due)
    row.loop.append(loop["cpu"] / loop["packets"])
    row.ours.append(ours["cpu"] / ours["packets"])
    row.shares.append(ours["cpu"] / ours["wall"] / row.publishers)
    return ours["packets"] / ours["wall"]


async def opening(units: list[AccessUnit], number: int, seconds: float, rate: float) -> float:
    """CPU seconds a packet of aiortc that only opens what so many send: ``rate`` a second."""
    async with (
        apart("bench.plain", "open") as serving,
        publishing(f"{serving.url}/whip", units, number),
        aiohttp.ClientSession(serving.url) as http,
    ):

        async def opened() -> int:
            async with http.get("/packets") as response:
                packets: int = await response.json()
                return packets

        await asyncio.sleep(SETTLED)
        before = await opened()
        began = asyncio.get_running_loop().time()
        share = await cpu_share(serving.process, seconds)
        packets = await opened() - before
        wall = asyncio.get_running_loop().time() - began
    if packets < OPENED * rate * wall:
        raise TooMuch(f"aiortc opened {packets} of {rate * wall:.0f} packets")
    return share * wall / packets


async def _flowing(url: str, seconds: float, rate: float) -> dict[str, float]:
    """A window of ours in which all pictures come, and all sound: so many a second."""
    for _ in range(TRIES):
        await asyncio.sleep(SETTLED)
        told = await window(url, seconds, alone=False)
        due = rate * told["wall"]
        if told["units"] >= DELIVERED * due:
            return told
        print(
            f"  {told['units']:.0f} of {due:.0f} pictures and packets of sound: again", flush=True
        )
    raise TooMuch("some are missing in every window: the machine has too much to do")


async def decoding(units: list[AccessUnit], seconds: float) -> float:
    async with (
        server("bench.plain", "decode") as serving,
        publishing(f"{serving.url}/whip", units, 1),
    ):
        await asyncio.sleep(1.5)
        return await cpu_share(serving.process, seconds)


def build(folder: Path) -> Path | None:
    """Compile the C loop; None where that cannot be done."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "opening.so"
    source = Path(__file__).parent / "opening" / "opening.c"
    command = [compiler, "-O2", "-std=gnu11", "-shared", "-fPIC", "-o", str(library), str(source)]
    return library if subprocess.run(command, check=False).returncode == 0 else None


async def measure(library: Path, seconds: float, rounds: int, *, sound: bool) -> int:
    print("making the clip ...", flush=True)
    units = await asyncio.to_thread(make_clip, audio=sound)
    rows: list[Row] = []
    failed: dict[str, bool | None] = {}
    loads = [os.getloadavg()[0]]
    for row in [*map(Row, COUNTS), Row(NUMBERED, numbered=True)]:
        try:
            for _ in range(rounds):
                rate = await receive(library, units, row, seconds)
                row.alone.append(await opening(units, row.publishers, seconds, rate))
        except TooMuch as error:
            print(f"  {row.name}: {error}", flush=True)
            failed[f"{row.name}: all of it comes"] = False
            continue
        rows.append(row)
        loads.append(os.getloadavg()[0])
        print(f"  {row.told()}", flush=True)
    if not rows:
        raise TooMuch("not even one publisher")
    decoded = [await decoding(units, seconds) for _ in range(rounds)]
    over_decoding = statistics.median(rows[0].shares) / statistics.median(decoded)
    print(f"  aiortc, decoding: {statistics.median(decoded):.4f} CPU seconds a second", flush=True)
    worst = max(rows, key=lambda row: statistics.median(row.ratios))
    ratio = statistics.median(worst.ratios)
    return report(
        "receive",
        bars={
            **failed,
            **{
                f"{row.name}: {OVER_OPENING:g} of SRTP alone": (
                    statistics.median(row.ratios) <= OVER_OPENING
                )
                for row in rows
            },
            f"one publisher: {OVER_DECODING:g} of decoding": over_decoding <= OVER_DECODING,
        },
        ratio=ratio,
        against=f"aiortc that only opens SRTP, CPU a packet, the worst of all: {worst.name}",
        samples=worst.ratios,
        rows=[row.told() for row in rows],
        decoding=round(statistics.median(decoded), 4),
        over_decoding=round(over_decoding, 4),
        sound=sound,
        load=[round(min(loads), 1), round(max(loads), 1)],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    add_sound(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        if library is None:
            print("no C compiler (gcc or cc): this bench is partly C")
            return report(
                "receive",
                bars={"a C compiler": False},
                ratio=0.0,
                against="nothing: no compiler",
                samples=[0.0],
            )
        return uvloop.run(
            measure(library, arguments.seconds, arguments.rounds, sound=arguments.sound)
        )


if __name__ == "__main__":
    sys.exit(main())
