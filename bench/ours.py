"""Parts of ours on their own, a process each, to be held against ``bench.plain``.

``python -m bench.ours KIND`` prints its address and serves until its input ends:

- ``receive``: WHIP in, access units out, thrown away.
- ``send``: WHEP out of encoded pictures.
"""

from __future__ import annotations

import argparse
import asyncio

import uvloop
from aiohttp import web

from bench.serving import created, serve
from bench.source import make_clip, pictures
from relay.cli.pace import pace
from relay.config import WebRtc
from relay.media.unit import AccessUnit
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
    def __init__(self, peers: Peers) -> None:
        self._ingest = Ingest(peers)
        self.egress = Egress(peers)
        self.egress.open(NAME, on_keyframe_wanted=lambda: None)
        self._sessions: list[Session] = []

    async def whip(self, request: web.Request) -> web.Response:
        return self._answer(await self._ingest.answer(await request.text(), Nowhere()))

    async def whep(self, request: web.Request) -> web.Response:
        return self._answer(await self.egress.answer(NAME, await request.text()))

    def _answer(self, session: Session) -> web.Response:
        self._sessions.append(session)
        return created(session.answer, session.id)

    def send(self, unit: AccessUnit) -> None:
        self.egress.frame(
            NAME, unit.codec, packetize(unit.payload), unit.pts, keyframe=unit.keyframe
        )


async def run(kind: str) -> None:
    peers = await Peers.open(WebRtc(port=0))
    ours = Ours(peers)
    sending = None
    if kind == "send":
        sending = asyncio.create_task(pace(pictures(make_clip()), ours.send))
    try:
        await serve(ours.whip, ours.whep)
    finally:
        if sending is not None:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        await peers.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["receive", "send"])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(parser.parse_args().kind))


if __name__ == "__main__":
    main()
