"""The gateway's egress and one process beside it, as ``bench.scale`` measures them.

``python -m bench.crowd.shared CORE`` prints its address and serves until its input ends; the
process is put on that core.

- ``POST /whep?to=RENDITION-PLACE``: a viewer of ``one``, ``two`` or ``solo``, by the gateway
  (``here``) or the process (``there``).
- ``POST /flat?rendition=R&seconds=S``: send as fast as it goes; what was sent, and took.
- ``POST /paced?rendition=R&seconds=S``: 30 pictures a second; when each was given.
- ``GET /used``: CPU seconds of both so far, and datagrams that were handed on.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from itertools import count
from typing import Final

import psutil
import uvloop
from aiohttp import web

from bench.crowd.sender import RATE, TICKS
from bench.servers import cpu_seconds
from bench.serving import created, serve
from bench.source import make_clip
from relay.config import WebRtc
from relay.media.unit import Codec
from relay.protocols.webrtc.egress import Egress
from relay.protocols.webrtc.h264_payload import Packetizer
from relay.protocols.webrtc.native_fanout import NativeSender
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.processes.egress_process import EgressProcess
from relay.protocols.webrtc.processes.egresses import Egresses

RENDITIONS: Final = ("one", "two", "solo")
BEHIND: Final = 0.0005
"""Seconds between two looks at whether the process has read what it was sent."""


MAX_BEHIND: Final = 2000


class Shared:
    def __init__(self, peers: Peers) -> None:
        native = NativeSender.over(peers.udp.fileno(), peers.udp.count)
        if native is None:
            raise RuntimeError("the native fan-out is not built: install with a C compiler")
        self._where = 0
        self.egress = Egresses(peers, Egress(peers, native), lambda places: self._where)
        for name in RENDITIONS:
            self.egress.open(name, on_keyframe_wanted=lambda: None)
        cut = Packetizer().cut
        self._clip = [(cut(u.payload), u.keyframe) for u in make_clip() if u.is_video]
        self._frames = {name: count() for name in RENDITIONS}

    async def begin(self, core: int) -> None:
        self.egress.start(1)
        for _ in range(3000):
            if self.egress._ready():
                break
            await asyncio.sleep(0.01)
        os.sched_setaffinity(self._process.pid or 0, {core})

    @property
    def _process(self) -> EgressProcess:
        return self.egress._processes[1]

    async def whep(self, request: web.Request) -> web.Response:
        to = request.query["to"]
        offer = await request.text()
        rendition, _, place = to.partition("-")
        self._where = int(place == "there")
        session = await self.egress.answer(rendition, offer)
        return created(session.answer, session.id)

    def _send(self, rendition: str) -> None:
        number = next(self._frames[rendition])
        payloads, keyframe = self._clip[number % len(self._clip)]
        self.egress.frame(rendition, Codec.H264, payloads, number * TICKS, keyframe=keyframe)

    async def _packets(self, rendition: str) -> tuple[int, int]:
        """Sent so far by each; the process answers when it has sent all that it was given."""
        found = await self.egress.viewers(rendition)
        sums = [sum(v.packets for v in found if v.process == number) for number in (0, 1)]
        return sums[0], sums[1]

    def _cpu(self) -> list[float]:
        return [cpu_seconds(psutil.Process(pid)) for pid in (os.getpid(), self._process.pid)]

    async def flat(self, request: web.Request) -> web.Response:
        rendition, seconds = request.query["rendition"], float(request.query["seconds"])
        link = self._process._link
        before, dropped = await self._packets(rendition), self._process.dropped
        cpu, began, frames = self._cpu(), time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            self._send(rendition)
            frames += 1
            await asyncio.sleep(0)
            for _ in range(MAX_BEHIND):
                if not link.waiting:
                    break
                await asyncio.sleep(BEHIND)
        after = await self._packets(rendition)
        wall = time.perf_counter() - began
        if self._process.dropped > dropped:
            raise web.HTTPConflict(text="the process was given more than it could send")
        return web.json_response(
            {
                "wall": wall,
                "frames": frames,
                "packets": [b - a for a, b in zip(before, after, strict=True)],
                "cpu": [b - a for a, b in zip(cpu, self._cpu(), strict=True)],
            }
        )

    async def paced(self, request: web.Request) -> web.Response:
        rendition, seconds = request.query["rendition"], float(request.query["seconds"])
        given = []
        began = time.monotonic()
        for number in range(round(seconds * RATE)):
            await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
            given.append(time.time_ns())
            self._send(rendition)
        return web.json_response(given)

    async def used(self, _: web.Request) -> web.Response:
        return web.json_response({"cpu": self._cpu(), "forwarded": self._process.forwarded})


async def run(core: int) -> None:
    peers = await Peers.open(WebRtc(host="127.0.0.1", port=0, egress_processes=1))
    shared = Shared(peers)
    await shared.begin(core)
    gc.collect()
    gc.freeze()
    try:
        await serve(
            None,
            shared.whep,
            web.post("/flat", shared.flat),
            web.post("/paced", shared.paced),
            web.get("/used", shared.used),
        )
    finally:
        await shared.egress.end("the bench is over")
        await peers.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(int(sys.argv[1])))
