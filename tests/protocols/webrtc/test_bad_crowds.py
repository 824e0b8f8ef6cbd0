"""Ten thousand that never come in: bounded in number, time and memory, and in nobody's way."""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from relay.config import WebRtc
from relay.media.unit import Codec
from relay.protocols.webrtc.egress import Egress
from relay.protocols.webrtc.half_open import MAX_HALF_OPEN, HalfOpen
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from tests.protocols.webrtc import nat, offers
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.test_amplification import check, client_hello
from tests.protocols.webrtc.test_peer_moves import until

CROWD = 10_000
STALLED = 500
ANSWER, HANDSHAKE = 30_000, 120_000
"""Bytes of resident memory that each may take while it is half open; measured: 17 and 75 kB."""


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    made = await Peers.open(WebRtc(host="127.0.0.1", port=0, connect_timeout=120))
    yield made
    await made.close()
    assert made.udp.idle
    assert len(made.half_open) == 0


def resident() -> int:
    """Bytes of this process."""
    gc.collect()
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


class Crowd:
    """Offers that are answered and lead nowhere: of the newest some stall in a handshake."""

    def __init__(self, peers: Peers, stack: ExitStack) -> None:
        self._peers = peers
        self._stack = stack
        self._hello = client_hello()
        self.made = 0

    async def come(self, count: int) -> None:
        for _ in range(count):
            await self._peers.answer(offers.publisher(), receive=True)
            self.made += 1

    async def stall(self, count: int) -> None:
        """Each from an address of its own, as far as our first flight."""
        there = (self._peers.udp.host, self._peers.udp.port)
        stalled: list[Peer] = []
        for _ in range(count):
            peer = await self._peers.answer(offers.publisher(), receive=True)
            self.made += 1
            sock = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.sendto(check(peer), there)
            sock.sendto(self._hello, there)
            stalled.append(peer)
            await asyncio.sleep(0)
        await until(lambda: all(peer._dtls and peer._dtls.flight for peer in stalled))


async def test_ten_thousand_half_open_leave_a_viewer_its_picture_and_take_bounded_memory(
    peers: Peers, mine: Peers
) -> None:
    egress = Egress(peers)
    egress.open("show", on_keyframe_wanted=lambda: None)
    before = resident()
    with ExitStack() as stack:
        crowd = Crowd(peers, stack)

        async def flood() -> None:
            await crowd.come(CROWD - STALLED - 1000)
            await crowd.stall(STALLED)
            await crowd.come(1000)

        flooding = asyncio.create_task(flood())
        await until(lambda: len(peers.half_open) == MAX_HALF_OPEN)
        async with nat.between(peers, mine, send=False, egress=egress) as (_, ours, theirs):
            seen: list[bytes] = []
            ours.on_rtp = lambda data, now: seen.append(data)
            await reach(ours, PeerState.CONNECTED)
            assert not flooding.done()  # it came in in the midst of them
            shown = 0
            while not flooding.done():
                egress.frame("show", Codec.H264, [b"\x65picture"], shown * 3000, keyframe=True)
                shown += 1
                await asyncio.sleep(0.01)
            await flooding
            await until(lambda: len(seen) >= shown)
            assert len(peers) == len(peers.half_open) + 1 <= MAX_HALF_OPEN + 1
            assert crowd.made == CROWD
            assert theirs.state is PeerState.CONNECTED
        assert resident() - before <= MAX_HALF_OPEN * ANSWER + STALLED * HANDSHAKE
    await egress.close("show", "test over")


async def test_of_handshakes_that_stall_the_oldest_make_room(peers: Peers, mine: Peers) -> None:
    peers.half_open = HalfOpen[Peer](lambda peer: peer.end("too many did not connect"), begun=20)
    with ExitStack() as stack:
        crowd = Crowd(peers, stack)
        await crowd.come(50)
        await crowd.stall(20)
        assert len(peers) == 70
        stalled = list(peers.half_open.begun)
        async with nat.between(peers, mine) as (_, ours, theirs):
            await reach(ours, PeerState.CONNECTED)
            await reach(theirs, PeerState.CONNECTED)
        assert [peer.close_reason for peer in stalled[:2]] == ["too many did not connect", ""]
        await crowd.stall(1)  # in the place of the one that came in
        assert len(peers.half_open.begun) == 20
        await crowd.stall(1)
        assert [peer.state for peer in stalled[1:3]] == [PeerState.CLOSED, PeerState.NEW]
        assert len(peers.half_open) == 50 + 20  # who has not begun is not of these


def announced(sequence: int, length: int) -> bytes:
    """Datagrams' worth of one handshake message: a byte of each of its pages."""
    records = bytearray()
    for number, offset in enumerate(range(0, length - 1, 4000)):
        body = b"\x0b" + length.to_bytes(3, "big") + sequence.to_bytes(2, "big")
        body += offset.to_bytes(3, "big") + b"\x00\x00\x01x"
        head = b"\x16\xfe\xfd\x00\x00" + (sequence << 16 | number).to_bytes(6, "big")
        records += head + len(body).to_bytes(2, "big") + body
    return bytes(records)


async def test_a_handshake_that_announces_much_and_sends_little_takes_no_more(
    peers: Peers,
) -> None:
    with ExitStack() as stack:
        crowd = Crowd(peers, stack)
        await crowd.stall(40)
        before = resident()
        for peer in peers.half_open.begun:
            address = peer.address
            assert address is not None
            for sequence in range(1, 11):  # OpenSSL keeps ten that are to come
                peer._datagram(announced(sequence, 100_000)[:1200], peer.ice._paths[address], 0.0)
                await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert resident() - before <= 40 * HANDSHAKE


async def test_a_handshake_that_is_spun_out_ends_in_time() -> None:
    server = await Peers.open(WebRtc(host="127.0.0.1", port=0, connect_timeout=1.0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        peer = await server.answer(offers.publisher(), receive=True)
        hello = client_hello()
        async with asyncio.timeout(5):
            while peer.state is not PeerState.CLOSED:  # alive all the time, and going nowhere
                sock.sendto(check(peer), (server.udp.host, server.udp.port))
                sock.sendto(hello, (server.udp.host, server.udp.port))
                await asyncio.sleep(0.02)
    assert peer.close_reason == "not connected in time: its handshake did not end"
    assert server.udp.idle
    assert len(server) == len(server.half_open) == 0
    await server.close()
