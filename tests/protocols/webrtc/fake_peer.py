"""A peer without a network: what it sends is kept, what it gets is called by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

from relay.media.unit import Codec
from relay.protocols.webrtc.native_receive import NativeReceiver
from relay.protocols.webrtc.negotiation import TrackParameters
from relay.protocols.webrtc.path import IceStatistics, Path
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peer_state import PeerStatistics
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.rtcp import Rtcp, parse_compound
from relay.protocols.webrtc.rtp import RtpPacket, parse_rtp
from tests.protocols.webrtc.outlet import parameters


class FakePeer:
    def __init__(
        self, video: TrackParameters | None = None, audio: TrackParameters | None = None
    ) -> None:
        self.id = "fake"
        self.answer = "v=0"
        self.state = PeerState.NEW
        self.close_reason = ""
        self.video = video
        self.audio = audio
        self.native: NativeReceiver | None = None  # as where it is not built
        self.hearing = None  # likewise
        self.ice = SimpleNamespace(
            selected=None,
            controlling=False,
            tie_breaker=7,
            credentials=SimpleNamespace(several=False),
            statistics=IceStatistics(),
        )
        self.receiving = self.sending = SimpleNamespace(pointer=0)
        self.heard: Path | None = None
        self.heard_ssrc = b""
        self.statistics = PeerStatistics()
        self.rtp: list[bytes] = []
        self.rtcp: list[bytes] = []
        self.on_rtp: Callable[[bytes, float], None]
        self.on_rtcp: Callable[[bytes, float], None]
        self.on_state: Callable[[PeerState], None]
        self.srtp_protect: Callable[[bytes], bytes] = lambda packet: packet
        self.transmit: Callable[[bytes], None] = self.rtp.append
        self.send_rtp: Callable[[bytes], None] = self.rtp.append
        self.send_rtcp: Callable[[bytes], None] = self.rtcp.append

    @property
    def packets(self) -> list[RtpPacket]:
        return [parse_rtp(data) for data in self.rtp]

    @property
    def control(self) -> list[Rtcp]:
        return [packet for data in self.rtcp for packet in parse_compound(data)]

    def connect(self) -> None:
        self.state = PeerState.CONNECTED
        self.on_state(self.state)

    def end(self, reason: str) -> None:
        if self.state is not PeerState.CLOSED:
            self.state = PeerState.CLOSED
            self.close_reason = reason
            self.on_state(self.state)

    async def close(self, reason: str) -> None:
        self.end(reason)


class FakePeers:
    """Answers every offer; ``made`` holds the peers, in order."""

    def __init__(self, *, video: bool = True, audio: bool = True) -> None:
        self.made: list[FakePeer] = []
        self._video = video
        self._audio = audio

    async def answer(self, offer: str, *, receive: bool) -> Peer:
        peer = FakePeer(
            parameters() if self._video else None,
            parameters(Codec.OPUS) if self._audio else None,
        )
        self.made.append(peer)
        return cast("Peer", peer)

    def as_peers(self) -> Peers:
        return cast("Peers", self)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until it holds; five seconds are far more than it takes."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("what was waited for did not come")
