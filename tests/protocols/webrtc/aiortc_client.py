"""An ordinary aiortc peer connection as the other end, on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any
from unittest import mock

import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.rtcconfiguration import RTCBundlePolicy

from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers

OPUS_SILENCE = b"\xf8\xff\xfe"
IDR = b"\x00\x00\x00\x01\x67\x42\xe0\x1f\x00" + b"\x00\x00\x00\x01\x65" + b"\x88" * 300


class Packets(MediaStreamTrack):
    """A track of ready packets, ``interval`` seconds apart."""

    def __init__(self, kind: str, payload: bytes, clock: int, interval: float) -> None:
        super().__init__()
        self.kind = kind
        self._payload = payload
        self._clock = clock
        self._interval = interval
        self._count = 0

    async def recv(self) -> Any:
        await asyncio.sleep(self._interval)
        packet = av.Packet(self._payload)
        packet.pts = packet.dts = int(self._count * self._interval * self._clock)
        packet.time_base = Fraction(1, self._clock)
        self._count += 1
        return packet


def video_track() -> Packets:
    return Packets("video", IDR, 90000, 0.01)


def audio_track() -> Packets:
    return Packets("audio", OPUS_SILENCE, 48000, 0.02)


@asynccontextmanager
async def connection() -> AsyncIterator[RTCPeerConnection]:
    """A peer connection that gathers 127.0.0.1 only."""
    configuration = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
    with mock.patch("aioice.ice.get_host_addresses", return_value=["127.0.0.1"]):
        client = RTCPeerConnection(configuration)
        try:
            yield client
        finally:
            await client.close()


async def offer_of(client: RTCPeerConnection) -> str:
    await client.setLocalDescription(await client.createOffer())
    # aiortc cannot do without a direction of its own; the relay needs sendonly or recvonly.
    return client.localDescription.sdp


async def connect(client: RTCPeerConnection, peers: Peers, *, receive: bool) -> Peer:
    """Offer, answer, and the answer set; not yet connected."""
    peer = await peers.answer(await offer_of(client), receive=receive)
    await client.setRemoteDescription(RTCSessionDescription(sdp=peer.answer, type="answer"))
    return peer


async def reach(peer: Peer, state: PeerState) -> None:
    """Wait until the peer is in ``state``."""
    reached = asyncio.Event()
    peer.on_state = lambda new: reached.set() if new is state else None
    if peer.state is not state:
        async with asyncio.timeout(10):
            await reached.wait()
