"""Viewers that are there before others join, in a process of their own.

``python -m bench.joins.standing WHEP [--whip URL] [--no-sound]`` prints ``ready`` once pictures
flow, and when its input ends, in one JSON line, what pictures left and came: moments of
``time.monotonic()``, which all processes of a machine share.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import time
from functools import partial
from typing import Final

import uvloop

from bench.servers import LOOPBACK
from bench.source import add_sound, endless, make_clip
from relay.cli.pace import pace
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.client import WhepClient, WhipClient

VIEWERS: Final = 5
FLOWING: Final = 60
"""Pictures of each viewer after which they are taken to flow."""


def name_of(unit: AccessUnit) -> str:
    """The same for the same picture, and for no other of the clip."""
    return hashlib.blake2s(unit.payload, digest_size=8).hexdigest()


class Standing:
    """What pictures left, and came to each viewer: (name, pts, moment)."""

    def __init__(self) -> None:
        self.sent: list[tuple[AccessUnit, float]] = []
        self.came: list[list[tuple[AccessUnit, float]]] = [[] for _ in range(VIEWERS)]
        self.flow = asyncio.Event()

    def send(self, whip: WhipClient, unit: AccessUnit) -> None:
        if unit.is_video:
            self.sent.append((unit, time.monotonic()))
        whip.send(unit)

    def receive(self, number: int, unit: AccessUnit) -> None:
        if not unit.is_video:
            return
        self.came[number].append((unit, time.monotonic()))
        if not self.flow.is_set() and min(map(len, self.came)) >= FLOWING:
            self.flow.set()

    def told(self) -> dict[str, list[list[tuple[str, int, float]]]]:
        return {
            key: [[(name_of(unit), unit.pts, at) for unit, at in row] for row in rows]
            for key, rows in (("sent", [self.sent]), ("came", self.came))
        }


async def run(whep: str, whip: str | None, *, sound: bool) -> None:
    standing = Standing()
    publisher: WhipClient | None = None
    sending: asyncio.Task[None] | None = None
    if whip is not None:
        opened = publisher = await WhipClient.connect(whip, audio=sound, settings=LOOPBACK)
        clip = endless(make_clip(audio=sound))
        sending = asyncio.create_task(pace(clip, lambda unit: standing.send(opened, unit)))
    viewers = [
        await WhepClient.connect(
            whep,
            on_unit=partial(standing.receive, number),
            audio=sound,
            settings=LOOPBACK,
        )
        for number in range(VIEWERS)
    ]
    try:
        await standing.flow.wait()
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    finally:
        if sending is not None:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        for viewer in viewers:
            await viewer.close()
        if publisher is not None:
            await publisher.close()
    print(json.dumps(standing.told()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("whep")
    parser.add_argument("--whip")
    add_sound(parser)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(arguments.whep, arguments.whip, sound=arguments.sound))


if __name__ == "__main__":
    main()
