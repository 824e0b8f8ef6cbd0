"""A gateway's egress with real processes, and viewers on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil

from relay.config import WebRtc
from relay.media.unit import Codec
from relay.protocols.webrtc.egress import Egress, EgressSession
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peer import PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.processes.egress_process import EgressProcess
from relay.protocols.webrtc.processes.egresses import Egresses
from relay.protocols.webrtc.processes.process import MediaProcess
from relay.protocols.webrtc.processes.session import FarViewer
from relay.protocols.webrtc.rtp import parse_rtp
from tests.protocols.webrtc.aiortc_client import reach

SHOW = "show"


async def until(condition: Callable[[], object]) -> None:
    for _ in range(4000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


class Watcher:
    """One viewer, with a UDP port of its own.

    Attributes:
        pictures: numbers of the pictures that came, as often as their packets did.
        sounds: how many packets of sound.
    """

    def __init__(self, mine: Peers, session: EgressSession | FarViewer, offering: Offering) -> None:
        self.mine = mine
        self.session = session
        self.peer = offering.peer
        self.pictures: list[int] = []
        self.sounds = 0
        self.sequences: list[int] = []
        self.ssrc = 0
        self.peer.on_rtp = self._rtp
        self.reports: list[bytes] = []
        self.peer.on_rtcp = lambda data, now: self.reports.append(data)

    def _rtp(self, data: bytes, now: float) -> None:
        packet = parse_rtp(data)
        assert self.peer.video is not None
        if packet.payload_type == self.peer.video.payload_type:
            self.pictures.append(int.from_bytes(packet.payload[1:5], "big"))
            self.sequences.append(packet.sequence)
            self.ssrc = packet.ssrc
        elif packet.payload_type == self.peer.video.rtx_payload_type:
            self.sequences.append(-1)
        else:
            self.sounds += 1

    async def leave(self) -> None:
        await self.mine.close()


class Hall:
    """Attributes:
    where: the place that the next viewer gets; 0 is here.
    wanted: key frames that were asked for.
    """

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        local = Egress.over(peers)
        self.where = 1
        self.egress = Egresses(peers, local, lambda places: min(self.where, len(places) - 1))
        self.wanted = 0
        self.number = 0
        self.watchers: list[Watcher] = []
        self.egress.open(SHOW, on_keyframe_wanted=self._want)

    def _want(self) -> None:
        self.wanted += 1

    def process(self, number: int = 1) -> EgressProcess:
        return self.egress._processes[number]

    async def started(self, number: int = 1) -> EgressProcess:
        self.egress.start(number)
        await until(lambda: number in self.egress._processes and self.process(number).ready)
        return self.process(number)

    def picture(self, *, keyframe: bool = False, size: int = 900, packets: int = 1) -> int:
        """Send one; returns its number."""
        self.number += 1
        payload = bytes([0x65 if keyframe else 0x41]) + self.number.to_bytes(4, "big")
        payloads = [payload + bytes(size) for _ in range(packets)]
        self.egress.frame(SHOW, Codec.H264, payloads, self.number * 3000, keyframe=keyframe)
        return self.number

    def sound(self) -> None:
        self.egress.frame(SHOW, Codec.OPUS, [b"\xfc" + bytes(80)], self.number * 1600)

    async def watcher(
        self, where: int, *, through: Callable[[str], str] = lambda answer: answer
    ) -> Watcher:
        """A viewer at a place, connected."""
        self.where = where
        mine = await Peers.open(WebRtc(host="127.0.0.1", port=0))
        offering = Offering(mine, send=False)
        session = await self.egress.answer(SHOW, offering.text)
        assert isinstance(session, FarViewer) is (where > 0)
        made = Watcher(mine, session, offering)
        self.watchers.append(made)
        offering.accept(through(session.answer))
        await reach(offering.peer, PeerState.CONNECTED)
        return made


def running(process: MediaProcess[Any]) -> psutil.Process:
    """To be killed, stopped and let go on."""
    assert process.pid is not None
    return psutil.Process(process.pid)


@asynccontextmanager
async def hall(**settings: Any) -> AsyncIterator[Hall]:
    given = {"host": "127.0.0.1", "port": 0, "egress_processes": 2, **settings}
    chosen = WebRtc(**given)
    peers = await Peers.open(chosen)
    made = Hall(peers)
    try:
        yield made
        for watcher in made.watchers:
            await watcher.leave()
        await made.egress.close(SHOW, "over")
    finally:
        await made.egress.end("the test is over")
        await peers.close()
    assert peers.udp.idle
    assert not made.egress._processes


async def _wait_to_be_killed() -> None:
    async with hall() as made:
        process = await made.started()
        print(process.pid, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_wait_to_be_killed())
