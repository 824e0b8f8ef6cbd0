"""Who writes others' addresses on what it sends costs little by it, and takes nobody's place."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from relay.protocols.webrtc import ice, stun
from relay.protocols.webrtc.peer import PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.sources import CHECKS_A_SECOND, CHECKS_OF_A_NAME
from relay.protocols.webrtc.stun import Message
from tests.protocols.webrtc import nat, offers
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.test_amplification import check, client_hello
from tests.protocols.webrtc.test_peer_moves import flows, until

HOSTS = 6500
IP_PKTINFO = 8  # of Linux


class Spoofer:
    """Sends from any address of 127.0.0.0/8.

    Attributes:
        sent: datagrams so far, each from the next of ``HOSTS`` hosts.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.sent = 0

    def send(self, data: bytes, to: Peers) -> None:
        number = self.sent % HOSTS
        source = bytes([127, 1 + (number >> 16), number >> 8 & 255, number & 255])
        info = struct.pack("=i4s4x", 0, source)
        self._sock.sendmsg(
            [data], [(socket.IPPROTO_IP, IP_PKTINFO, info)], 0, (to.udp.host, to.udp.port)
        )
        self.sent += 1


@pytest.fixture
def spoofer() -> Iterator[Spoofer]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", 0))
        yield Spoofer(sock)


def named(ufrag: str, kind: int = stun.BINDING_REQUEST) -> bytes:
    """Signed with a key that nobody has."""
    return stun.build(kind, os.urandom(12), [(stun.USERNAME, f"{ufrag}:x".encode())], b"wrong")


async def test_checks_in_nobodys_name_are_not_read_at_all(
    either: Peers, spoofer: Spoofer, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = await either.answer(offers.publisher(), receive=True)
    read: list[bytes] = []
    parse = stun.parse

    def counted(data: bytes) -> Message:
        read.append(data)
        return parse(data)

    monkeypatch.setattr(stun, "parse", counted)
    flood = [
        named("nobody"),
        named(peer.ice.ufrag, stun.BINDING_SUCCESS),
        named(peer.ice.ufrag, stun.BINDING_INDICATION),
        named(peer.ice.ufrag[:-1]),
    ]
    before = either.udp.statistics.strangers
    while spoofer.sent < 2 * HOSTS:
        spoofer.send(flood[spoofer.sent % len(flood)], either)
        if spoofer.sent % 50 == 0:
            await asyncio.sleep(0)
    await until(lambda: either.udp.statistics.strangers >= before + 1.8 * HOSTS)
    assert read == []
    spoofer.send(named(peer.ice.ufrag), either)
    await until(lambda: len(read) == 1)
    assert peer.ice.statistics.refused == 1
    await peer.close("test over")


async def test_a_flood_in_a_name_of_the_floods_own_is_read_in_part_and_keeps_nobody_out(
    either: Peers, mine: Peers, spoofer: Spoofer
) -> None:
    mallory = await either.answer(offers.publisher(), receive=True)
    flood = [named(mallory.ice.ufrag), named("nobody")]
    begun, over = time.monotonic(), False

    async def flooding() -> None:
        while not over:
            spoofer.send(flood[spoofer.sent % 4 == 3], either)
            if spoofer.sent % 50 == 0:
                await asyncio.sleep(0)

    def windows() -> float:
        return time.monotonic() - begun + 2

    running = asyncio.create_task(flooding())
    await until(lambda: spoofer.sent > HOSTS)
    # By now nothing is left of what all may have together, in this second.
    async with nat.between(either, mine) as (_, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await reach(theirs, PeerState.CONNECTED)
        await until(lambda: spoofer.sent > 3 * HOSTS)
        over = True
        await running
        received = either.udp.statistics.received
        assert received > HOSTS
        refused = mallory.ice.statistics.refused
        assert refused <= windows() * (CHECKS_A_SECOND + CHECKS_OF_A_NAME)
        await flows(ours, theirs, 0)
        await flows(theirs, ours, 1000)
    await mallory.close("test over")


async def test_good_credentials_of_ones_own_take_nobodys_address(
    either: Peers, mine: Peers
) -> None:
    async with nat.between(either, mine) as (router, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await flows(ours, theirs, 0)
        mallory = await either.answer(offers.publisher(), receive=True)
        before = theirs.address
        refused, received = theirs.statistics.refused, either.udp.statistics.received
        for _ in range(10):  # in the name of the client, whose router lets it
            router.forge(check(mallory, (stun.USE_CANDIDATE, b"")))
            router.forge(client_hello())
            await asyncio.sleep(0.01)
        await until(lambda: either.udp.statistics.received >= received + 20)
        assert mallory.ice.selected is None
        assert mallory.state is PeerState.NEW
        assert theirs.address == before
        assert theirs.statistics.refused == refused
        await flows(ours, theirs, 1000)
        await flows(theirs, ours, 2000)
        mallory.end("test over")


async def test_spoofed_sources_take_a_bounded_place_and_leave_the_peer_alone(
    either: Peers, mine: Peers
) -> None:
    """Good checks of one peer from a hundred addresses, which all are somebody else's."""
    async with nat.between(either, mine) as (_, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await flows(ours, theirs, 0)
        before = theirs.address
        victims = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(100)]
        for victim in victims:
            victim.setblocking(False)
            victim.sendto(
                check(theirs, (stun.USE_CANDIDATE, b"")), (either.udp.host, either.udp.port)
            )
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.3)
        assert len(theirs.ice._paths) <= ice.MAX_PATHS
        assert theirs.address == before
        heard: list[bytes] = []
        for victim in victims:
            while True:
                try:
                    heard.append(victim.recv(2048))
                except BlockingIOError:
                    break
            victim.close()
        assert all(data[0] < 2 for data in heard)  # checks and answers: no media, no handshake
        await flows(ours, theirs, 1000)
        await flows(theirs, ours, 2000)
