"""What strangers send to the port of a live peer, under their own address and under its."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator

import pytest

from relay.protocols.webrtc import stun
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from tests.protocols.webrtc import nat
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.test_peer_moves import flows, until


@pytest.fixture
def strangers() -> Iterator[list[socket.socket]]:
    opened = []
    for _ in range(20):
        opened.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        opened[-1].bind(("127.0.0.1", 0))
        opened[-1].setblocking(False)
    yield opened
    for sock in opened:
        sock.close()


def record(kind: int, body: bytes, *, epoch: int = 0) -> bytes:
    """A DTLS record in the clear."""
    head = bytes([kind, 0xFE, 0xFD]) + epoch.to_bytes(2, "big") + bytes(6)
    return head + len(body).to_bytes(2, "big") + body


def client_hello() -> bytes:
    hello = b"\xfe\xfd" + os.urandom(32) + b"\x00\x00\x00\x04\xc0\x2b\x00\xff\x01\x00"
    length = len(hello).to_bytes(3, "big")
    return record(22, b"\x01" + length + bytes(5) + length + hello)


def check(peer: Peer, pwd: str) -> bytes:
    """A nominating check that names the peer's own user name."""
    attributes = [(stun.USERNAME, f"{peer.ice.ufrag}:x".encode()), (stun.USE_CANDIDATE, b"")]
    return stun.build(stun.BINDING_REQUEST, os.urandom(12), attributes, pwd.encode())


def forgeries(peer: Peer) -> list[bytes]:
    return [
        client_hello(),
        record(21, b"\x01\x00"),  # close_notify in the clear
        record(21, b"\x02\x28"),  # a fatal alert in the clear
        record(21, b"\x01\x00", epoch=1),
        record(23, os.urandom(40), epoch=1),
        record(22, os.urandom(1400)),
        record(22, b"")[:-2] + b"\xff\xff",  # a length that lies
        bytes([0x80, 96]) + os.urandom(60),  # RTP with no good tag
        bytes([0x81, 203]) + os.urandom(60),  # RTCP BYE with no good tag
        check(peer, "p" * 24),
        stun.build(stun.BINDING_SUCCESS, os.urandom(12), [], b"k"),
        b"\x17",
        b"\x40" + bytes(30),
        bytes([100]) * 2000,
    ]


async def test_a_flood_of_strangers_moves_and_ends_nothing(
    peers: Peers, mine: Peers, strangers: list[socket.socket]
) -> None:
    async with nat.between(peers, mine) as (_, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await flows(ours, theirs, 0)
        before, paths = theirs.address, len(peers.udp._by_address)
        sent = peers.udp.statistics.received
        for number in range(100):
            for sock in strangers:
                data = forgeries(theirs)[number % 14]
                sock.sendto(data, (peers.udp.host, peers.udp.port))
                sent += 1
            await asyncio.sleep(0)
        await until(lambda: peers.udp.statistics.received >= sent * 0.9)
        assert theirs.state is PeerState.CONNECTED
        assert theirs.address == before
        assert len(peers.udp._by_address) == paths
        assert theirs.ice.statistics.refused > 0
        for sock in strangers:
            with pytest.raises(BlockingIOError):
                sock.recv(2048)
        await flows(ours, theirs, 1000)
        await flows(theirs, ours, 2000)


async def test_a_forged_source_ends_nothing_either(peers: Peers, mine: Peers) -> None:
    async with nat.between(peers, mine) as (router, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await flows(ours, theirs, 0)
        for _ in range(20):
            for data in forgeries(theirs):
                router.forge(data)
            await asyncio.sleep(0.002)
        await flows(ours, theirs, 1000)
        await flows(theirs, ours, 2000)
        assert ours.state is theirs.state is PeerState.CONNECTED


async def test_a_strangers_hello_does_not_take_a_handshake_over(
    peers: Peers, mine: Peers, strangers: list[socket.socket]
) -> None:
    async with nat.between(peers, mine) as (router, ours, theirs):
        router.hold = lambda data: data[0] > 3  # the client's own hello is late
        await until(lambda: theirs.address is not None)
        known = peers.udp.statistics.strangers
        for sock in strangers:
            for data in (client_hello(), record(21, b"\x02\x28"), record(22, os.urandom(300))):
                sock.sendto(data, (peers.udp.host, peers.udp.port))
        await until(lambda: peers.udp.statistics.strangers >= known + 3 * len(strangers))
        router.release()
        await reach(theirs, PeerState.CONNECTED)
        await reach(ours, PeerState.CONNECTED)
        await flows(ours, theirs, 0)
