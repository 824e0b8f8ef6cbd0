"""Parts of ours on their own, a process each, to be held against ``bench.plain``.

``python -m bench.ours KIND`` prints its address and serves until its input ends:

- ``receive``: WHIP in, access units out, thrown away.
- ``send``: WHEP out of encoded pictures and sound; with ``--streams N`` of N renditions, to each
  viewer that of the next one in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
from functools import partial

import uvloop
from aiohttp import web

from bench.serving import created, serve
from bench.source import add_sound, endless, make_clip
from relay.cli.pace import pace
from relay.config import WebRtc
from relay.media.unit import VIDEO_CLOCK, AccessUnit
from relay.protocols.webrtc.egress import Egress
from relay.protocols.webrtc.h264_payload import packetize
from relay.protocols.webrtc.ingest import Ingest
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.session import Session

NAME = "bench"


class Nowhere:
    """A sink that only counts."""

    def __init__(self) -> None:
        self.units = 0

    def unit(self, unit: AccessUnit) -> None:
        self.units += 1

    def closed(self, reason: str) -> None:
        return


class Ours:
    def __init__(self, peers: Peers, streams: int = 1) -> None:
        self._ingest = Ingest(peers)
        self.egress = Egress(peers)
        self.names = [f"{NAME}-{number}" for number in range(streams)]
        for name in self.names:
            self.egress.open(name, on_keyframe_wanted=lambda: None)
        self._turns = itertools.cycle(self.names)
        self._sessions: list[Session] = []

    async def whip(self, request: web.Request) -> web.Response:
        return self._answer(await self._ingest.answer(await request.text(), Nowhere()))

    async def whep(self, request: web.Request) -> web.Response:
        return self._answer(await self.egress.answer(next(self._turns), await request.text()))

    def _answer(self, session: Session) -> web.Response:
        self._sessions.append(session)
        return created(session.answer, session.id)

    def send(self, name: str, unit: AccessUnit) -> None:
        if unit.is_video:
            payloads, timestamp = packetize(unit.payload), unit.pts
        else:
            payloads, timestamp = [unit.payload], unit.pts * 48_000 // VIDEO_CLOCK
        self.egress.frame(name, unit.codec, payloads, timestamp, keyframe=unit.keyframe)


async def run(kind: str, streams: int, *, sound: bool) -> None:
    peers = await Peers.open(WebRtc(port=0))
    ours = Ours(peers, streams)
    sending: list[asyncio.Task[None]] = []
    if kind == "send":
        clip = make_clip(audio=sound)
        for name in ours.names:
            sending.append(asyncio.create_task(pace(endless(clip), partial(ours.send, name))))
            await asyncio.sleep(1 / 30 / streams)
    try:
        await serve(ours.whip, ours.whep)
    finally:
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        await peers.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["receive", "send"])
    parser.add_argument("--streams", type=int, default=1)
    add_sound(parser)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(arguments.kind, arguments.streams, sound=arguments.sound))


if __name__ == "__main__":
    main()
