"""Nobody gets more from us than was said in its name, and nobody is kept waiting by silence."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from relay.config import WebRtc
from relay.protocols.webrtc import dtls, stun
from relay.protocols.webrtc.certificate import Certificate
from relay.protocols.webrtc.dtls import Dtls
from relay.protocols.webrtc.half_open import HalfOpen
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.path import TOLD
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.sources import CHECKS_A_SECOND, CHECKS_OF_A_PEER, Sources
from tests.protocols.webrtc import nat, offers
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.test_peer_moves import flows, until


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    made = await Peers.open(WebRtc(host="127.0.0.1", port=0, connect_timeout=120))
    yield made
    await made.close()
    assert made.udp.idle
    assert len(made.half_open) == 0


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        opened.setblocking(False)
        yield opened


def check(peer: Peer, *more: tuple[int, bytes]) -> bytes:
    """A good one, as its client would send it."""
    name = f"{peer.ice.ufrag}:{peer.ice.remote.ufrag}".encode()
    attributes = [(stun.USERNAME, name), (stun.PRIORITY, b"\x6e\x00\x01\xff"), *more]
    key = peer.ice.pwd.encode()
    return stun.build(stun.BINDING_REQUEST, os.urandom(12), attributes, key)


def client_hello() -> bytes:
    (hello,) = Dtls(Certificate(), (), client=True).begin(0.0)
    return hello


def all_of(sock: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(sock.recv(2048))
        except BlockingIOError:
            return found


async def test_an_address_that_answers_nothing_gets_a_bounded_part_of_a_handshake(
    peers: Peers, sock: socket.socket
) -> None:
    peer = await peers.answer(offers.publisher(), receive=True)
    there = (peers.udp.host, peers.udp.port)
    datagrams = [check(peer), client_hello()]
    for datagram in datagrams:
        sock.sendto(datagram, there)
    said = sum(map(len, datagrams))
    await asyncio.sleep(1.5)  # time for flights to be sent again
    flights = [data for data in all_of(sock) if 19 < data[0] < 64]
    assert sum(map(len, flights)) <= 3 * said
    assert peer.state is PeerState.NEW
    await peer.close("test over")


CONTROLLED = (stun.ICE_CONTROLLED, bytes(8))  # a conflict, which turns our role
UNKNOWN = (0x7001, b"")  # to be understood


@pytest.mark.parametrize("more", [(), (CONTROLLED,), (UNKNOWN,)], ids=["plain", "role", "unknown"])
@pytest.mark.parametrize("checks", [1, 5])
@pytest.mark.parametrize("hello", [False, True])
async def test_of_all_that_it_gets_nothing_is_beyond_three_times_what_was_said(
    peers: Peers, sock: socket.socket, more: tuple[tuple[int, bytes]], checks: int, hello: bool
) -> None:
    peer = await peers.answer(offers.publisher(), receive=True)
    there = (peers.udp.host, peers.udp.port)
    said = 0
    for _ in range(checks):
        datagrams = [check(peer, *more), *([client_hello()] if hello else [])]
        for datagram in datagrams:
            said += sock.sendto(datagram, there)
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)  # time for checks and flights to be sent again
    heard = all_of(sock)
    answers = [data for data in heard if data[0] == 1]
    assert len(answers) <= checks
    assert sum(map(len, heard)) - sum(map(len, answers)) <= 3 * said
    assert 0 < sum(map(len, heard)) <= 4 * said
    await peer.close("test over")


async def test_what_was_held_back_leaves_with_the_answer_that_makes_an_address_true(
    peers: Peers, sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dtls, "_RESEND_DELAYS", (60.0,))
    peer = await peers.answer(offers.publisher(), receive=True)
    there = (peers.udp.host, peers.udp.port)
    for datagram in (check(peer), client_hello()):
        sock.sendto(datagram, there)
    await until(lambda: peer._withheld)
    heard = all_of(sock)
    assert all(data[0] < 2 for data in heard)
    (asked,) = (data for data in heard if data[0] == 0)
    sock.sendto(stun.success(stun.parse(asked), there, peer.ice.remote.pwd.encode()), there)
    found: list[bytes] = []
    async with asyncio.timeout(0.5):  # OpenSSL's own patience is a second
        while not found:
            await asyncio.sleep(0.01)
            found = [data for data in all_of(sock) if 19 < data[0] < 64]
    assert not peer._withheld
    await peer.close("test over")


async def test_a_handshake_is_not_led_to_an_address_that_has_answered_nothing(
    peers: Peers, sock: socket.socket
) -> None:
    peer = await peers.answer(offers.publisher(), receive=True)
    there = (peers.udp.host, peers.udp.port)
    mine = Certificate()
    client = Dtls(mine, [("sha-256", peers.certificate.sha256)], client=True)
    peer._fingerprints = (("sha-256", mine.sha256),)
    sock.sendto(check(peer, (stun.USE_CANDIDATE, b"")), there)
    for datagram in client.begin(0.0):
        sock.sendto(datagram, there)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim:
        victim.bind(("127.0.0.1", 0))
        victim.setblocking(False)
        async with asyncio.timeout(10):
            while peer.state is PeerState.NEW:
                await asyncio.sleep(0.01)
                for data in all_of(sock):
                    if data[0] == 0:
                        key = peer.ice.remote.pwd.encode()
                        sock.sendto(stun.success(stun.parse(data), there, key), there)
                    elif 19 < data[0] < 64:
                        # In the victim's name, before the handshake ends: a better path.
                        victim.sendto(check(peer, (stun.USE_CANDIDATE, b"")), there)
                        await until(lambda: len(peer.ice._paths) == 2)
                        for datagram in client.receive(data, 0.0):
                            sock.sendto(datagram, there)
        assert peer.state is PeerState.CONNECTED
        assert peer.address == sock.getsockname()
        peer.send_rtcp(b"\x80\xc9\x00\x01ssrc")
        await asyncio.sleep(0.05)
        assert all(data[0] < 2 for data in all_of(victim))  # checks and their answers
    await peer.close("test over")


@pytest.mark.parametrize(
    ("checks", "ufrag", "setup"),
    [(0, 256, "active"), (5, 4, "active"), (5, 4, "passive"), (5, 256, "passive")],
)
async def test_an_address_that_an_answer_has_made_up_gets_a_few_checks_and_no_more(
    peers: Peers, sock: socket.socket, checks: int, ufrag: int, setup: str
) -> None:
    # Whoever answers our offer names a victim, and speaks to us in its name.
    offering = Offering(peers, send=False)
    there = (peers.udp.host, peers.udp.port)
    host, port = sock.getsockname()
    theirs = await peers.answer(offering.text, receive=False)
    answer = theirs.answer.replace(theirs.ice.ufrag, "u" * ufrag)
    answer = answer.replace(f"{there[0]} {there[1]} typ", f"{host} {port} typ")
    for word in ("active", "passive"):
        answer = answer.replace(f"a=setup:{word}", f"a=setup:{setup}")
    ours = offering.peer
    offering.accept(answer)
    said = 0
    for number in range(checks):
        role = (stun.ICE_CONTROLLED, bytes(8)) if number % 2 else UNKNOWN
        said += sock.sendto(check(ours), there)
        said += sock.sendto(check(ours, role), there)
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)
    heard = all_of(sock)
    asked = [data for data in heard if data[0] != 1]
    assert 1 < len(asked) <= 20
    assert sum(map(len, asked)) <= TOLD + 3 * said
    assert sum(map(len, heard)) <= TOLD + 4 * said
    ours.end("test over")
    theirs.end("test over")


async def test_a_check_is_answered_by_less_than_it_asked_with(
    peers: Peers, sock: socket.socket
) -> None:
    peer = await peers.answer(offers.publisher(), receive=True)
    peer.ice.quiet = True  # no check of ours beside
    request = check(peer)
    sock.sendto(request, (peers.udp.host, peers.udp.port))
    await until(lambda: peer.ice.statistics.answered)
    (answer,) = all_of(sock)
    assert len(answer) <= len(request)
    await peer.close("test over")


async def test_a_flood_of_checks_from_one_host_is_read_in_part(
    peers: Peers, mine: Peers, sock: socket.socket
) -> None:
    async with nat.between(peers, mine) as (_, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await reach(theirs, PeerState.CONNECTED)
        name = f"{theirs.ice.ufrag}:x".encode()
        bad = stun.build(stun.BINDING_REQUEST, bytes(12), [(stun.USERNAME, name)], b"wrong")
        received = peers.udp.statistics.received
        refused = theirs.ice.statistics.refused
        for _ in range(40):
            for _ in range(100):
                sock.sendto(bad, (peers.udp.host, peers.udp.port))
            await asyncio.sleep(0)
        await until(lambda: peers.udp.statistics.received >= received + 3600)
        # Two windows at most lie in the time that it takes.
        assert theirs.ice.statistics.refused - refused <= 2 * CHECKS_A_SECOND
        assert all_of(sock) == []
        await flows(ours, theirs, 0)
        await flows(theirs, ours, 1000)


async def test_a_flood_of_checks_in_a_peers_own_name_is_read_in_part(
    either: Peers, mine: Peers
) -> None:
    peers = either
    async with nat.between(peers, mine) as (router, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await reach(theirs, PeerState.CONNECTED)
        name = f"{theirs.ice.ufrag}:{theirs.ice.remote.ufrag}".encode()
        bad = stun.build(stun.BINDING_REQUEST, bytes(12), [(stun.USERNAME, name)], b"wrong")
        received, refused = peers.udp.statistics.received, theirs.ice.statistics.refused
        begun = time.monotonic()
        for _ in range(100):
            for _ in range(50):
                router.forge(bad)
            await asyncio.sleep(0)
        await until(lambda: peers.udp.statistics.received >= received + 4500)
        windows = time.monotonic() - begun + 2
        assert theirs.ice.statistics.refused - refused <= windows * CHECKS_OF_A_PEER
        await flows(ours, theirs, 0)
        await flows(theirs, ours, 1000)
        assert theirs.state is ours.state is PeerState.CONNECTED


async def test_an_answer_to_a_check_of_ours_is_read_whatever_floods(
    either: Peers, mine: Peers
) -> None:
    async with nat.between(either, mine) as (router, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await reach(theirs, PeerState.CONNECTED)
        selected = theirs.ice.selected
        await until(lambda: selected and selected.answered)
        assert selected is not None
        either.udp._familiar = Sources(0)  # as when all of it is used up
        before, flooded = selected.answered or 0.0, either.udp.statistics.flooded
        selected.next_check = 0.0
        theirs.ice.on_schedule(0.0)
        await until(lambda: (selected.answered or 0.0) > before)
        router.forge(check(theirs))
        await until(lambda: either.udp.statistics.flooded > flooded)


def test_the_oldest_makes_room() -> None:
    ended: list[int] = []
    line = HalfOpen[int](ended.append, limit=3)
    for number in range(5):
        line.add(number)
    line.remove(3)
    line.add(5)
    assert ended == [0, 1]
    assert len(line) == 3
    line.remove(77)


async def test_answers_that_nobody_uses_keep_nobody_out(peers: Peers, mine: Peers) -> None:
    peers.half_open = HalfOpen[Peer](lambda peer: peer.end("too many did not connect"), limit=50)
    made = [await peers.answer(offers.publisher(), receive=True) for _ in range(120)]
    assert len(peers) == 50
    assert {peer.close_reason for peer in made[:70]} == {"too many did not connect"}
    async with nat.between(peers, mine) as (_, ours, theirs):
        await reach(theirs, PeerState.CONNECTED)
        for _ in range(60):  # who is connected is not of the line
            await peers.answer(offers.publisher(), receive=True)
        await flows(ours, theirs, 0)
        await flows(theirs, ours, 1000)
