"""A peer, with an ordinary aiortc client at the other end, over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from relay.config import WebRtc
from relay.protocols.webrtc.peer import Peers, PeerState
from tests.protocols.webrtc import aiortc_client
from tests.protocols.webrtc.aiortc_client import connect, connection, reach


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    made = await Peers.open(WebRtc(host="127.0.0.1", port=0))
    yield made
    await made.close()
    assert made.udp.idle
    assert len(made) == 0


async def test_a_publisher_connects_and_its_media_arrives(peers: Peers) -> None:
    async with connection() as client:
        client.addTrack(aiortc_client.video_track())
        client.addTrack(aiortc_client.audio_track())
        peer = await connect(client, peers, receive=True)
        kinds: set[int] = set()
        both = asyncio.Event()

        def on_rtp(packet: bytes, now: float) -> None:
            kinds.add(packet[1] & 0x7F)
            if len(kinds) == 2:
                both.set()

        reports: list[bytes] = []
        peer.on_rtp = on_rtp
        peer.on_rtcp = lambda packet, now: reports.append(packet)
        await reach(peer, PeerState.CONNECTED)
        async with asyncio.timeout(5):
            await both.wait()
        assert peer.video is not None
        assert peer.audio is not None
        assert kinds == {peer.video.payload_type, peer.audio.payload_type}
        assert peer.statistics.refused == 0
        await peer.close("test over")
        assert peer.state is PeerState.CLOSED
        assert peer.close_reason == "test over"
