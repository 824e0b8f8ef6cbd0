"""What happens to a connected peer on the way: new addresses, restarts, silence, bad packets."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable

import pytest

from relay.config import WebRtc
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.session import Session
from tests.protocols.webrtc import nat
from tests.protocols.webrtc.aiortc_client import reach

QUICK = WebRtc(host="127.0.0.1", port=0, consent_timeout=2.0)


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    made = await Peers.open(QUICK)
    yield made
    await made.close()
    assert made.udp.idle


@pytest.fixture
async def mine() -> AsyncIterator[Peers]:
    made = await Peers.open(QUICK)
    yield made
    await made.close()


def packet(number: int) -> bytes:
    return bytes([0x80, 96]) + number.to_bytes(2, "big") + bytes(4) + b"ssrc" + b"payload"


async def until(condition: Callable[[], object]) -> None:
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise TimeoutError


async def flows(sender: Peer, receiver: Peer, start: int) -> None:
    """Send until something arrives."""
    got: list[bytes] = []
    receiver.on_rtp = lambda data, now: got.append(data)
    for number in range(start, start + 500):
        sender.send_rtp(packet(number))
        await asyncio.sleep(0.005)
        if got:
            break
    assert got[0] == packet(int.from_bytes(got[0][2:4], "big"))


async def test_a_peer_whose_address_changes_goes_on(peers: Peers, mine: Peers) -> None:
    async with nat.between(peers, mine) as (router, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await flows(ours, theirs, 0)
        outward = await router.rebind()
        await until(lambda: theirs.address == outward)
        await flows(ours, theirs, 1000)
        await flows(theirs, ours, 2000)
        assert theirs.ice.statistics.moves == 1


async def test_a_router_that_changes_the_address_in_mid_stream_is_followed_by_the_media(
    peers: Peers, mine: Peers
) -> None:
    async with nat.between(peers, mine) as (router, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await flows(ours, theirs, 0)
        # The client knows nothing of it: no check of its own comes from the new address.
        router.hold = lambda data: data[:2] == b"\x00\x01"
        outward = await router.rebind()
        await asyncio.sleep(0.15)
        got: list[bytes] = []
        theirs.on_rtp = lambda data, now: got.append(data)
        for number in range(1000, 1400):
            ours.send_rtp(packet(number))
            await asyncio.sleep(0.005)
            if theirs.address == outward:
                break
        assert theirs.address == outward
        assert packet(1000) in got  # not even the first one is lost
        router.release()
        await flows(theirs, ours, 2000)


async def test_media_recorded_and_sent_from_elsewhere_moves_nothing(
    peers: Peers, mine: Peers
) -> None:
    async with nat.between(peers, mine) as (router, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        heard: list[bytes] = []

        def listen(data: bytes) -> bool:
            heard.append(data)
            return False

        router.hold = listen
        await flows(ours, theirs, 0)
        # What has left is there: nothing of the client's own comes any more.
        await until(
            lambda: theirs.statistics.unprotected == sum(127 < data[0] < 192 for data in heard)
        )
        before, unprotected = theirs.address, theirs.statistics.unprotected
        await asyncio.sleep(0.15)  # as if the path had fallen silent
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            known = peers.udp.statistics.strangers
            media = [data for data in heard if 127 < data[0] < 192]
            for data in [*media, media[0][:2] + os.urandom(2) + media[0][4:]]:
                sock.sendto(data, (peers.udp.host, peers.udp.port))
            await until(lambda: peers.udp.statistics.strangers > known + len(media))
            with pytest.raises(BlockingIOError):
                sock.recv(2048)
        assert theirs.address == before
        assert theirs.statistics.unprotected == unprotected
        assert theirs.ice.selected is not None
        assert not theirs.ice.selected.lost


async def test_bare_media_from_elsewhere_moves_nothing(peers: Peers, mine: Peers) -> None:
    async with nat.between(peers, mine) as (router, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await flows(ours, theirs, 0)
        before = theirs.address
        router.hold = lambda data: data[0] < 4  # no checks
        await router.rebind()
        strangers = peers.udp.statistics.strangers
        ours.send_rtp(packet(1000))
        await until(lambda: peers.udp.statistics.strangers > strangers)
        assert theirs.address == before


async def test_a_restart_in_mid_stream_keeps_keys_and_media(peers: Peers, mine: Peers) -> None:
    async with nat.between(peers, mine) as (_, ours, theirs):
        session = Session(theirs)
        await reach(ours, PeerState.CONNECTED)
        await flows(ours, theirs, 0)
        keys, old = theirs._dtls, theirs.ice.ufrag.encode()
        now = time.monotonic()
        ufrag, pwd = ours.ice.renew(now)
        body = f"a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n"
        assert (await session.patch(body.encode(), "*")).status == 200
        await flows(ours, theirs, 1000)  # on the old credentials still
        assert old in peers.udp._by_ufrag
        ours.ice.set_remote(theirs.ice.ufrag, theirs.ice.pwd)
        path = ours.ice.selected
        assert path is not None
        path.ours, path.theirs = ours.ice.credentials.ours, ours.ice.remote
        await until(lambda: old not in peers.udp._by_ufrag)
        await flows(ours, theirs, 2000)
        assert theirs._dtls is keys
        assert theirs.state is PeerState.CONNECTED


async def test_media_that_overtakes_the_handshake_is_kept(peers: Peers, mine: Peers) -> None:
    # We are the DTLS client here: the other end may send as soon as its last flight is out.
    async with nat.between(peers, mine, setup="passive") as (router, ours, theirs):
        got: list[bytes] = []
        theirs.on_rtp = lambda data, now: got.append(data)
        connected = asyncio.Event()

        def hold_the_last_flight(data: bytes) -> bool:
            return 19 < data[0] < 64 and ours.state is PeerState.CONNECTED

        def now_connected(state: PeerState) -> None:
            connected.set()

        router.hold = hold_the_last_flight
        ours.on_state = now_connected
        await connected.wait()
        early = peers.udp.statistics.received
        for number in range(100):
            ours.send_rtp(packet(number))
        await until(lambda: peers.udp.statistics.received >= early + 100)
        assert theirs.state is PeerState.NEW
        router.release()
        await reach(theirs, PeerState.CONNECTED)
        assert got == [packet(number) for number in range(64)]
        assert theirs.statistics.early_dropped == 36


async def test_a_check_and_a_handshake_may_overtake_the_answer(peers: Peers, mine: Peers) -> None:
    offering = Offering(mine, send=True)
    peer = await peers.answer(offering.text, receive=True)
    address = (mine.udp.host, mine.udp.port)
    peer.ice.check_addresses([address], time.monotonic())
    await until(lambda: offering.peer.ice.selected)
    assert offering.peer.state is PeerState.NEW
    offering.accept(peer.answer)
    await reach(offering.peer, PeerState.CONNECTED)
    await flows(offering.peer, peer, 0)


async def test_a_peer_that_falls_silent_is_given_up(peers: Peers, mine: Peers) -> None:
    async with nat.between(peers, mine) as (_, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await flows(ours, theirs, 0)
    mine.udp.close()  # as a browser that is killed
    await reach(theirs, PeerState.CLOSED)
    assert theirs.close_reason == "no sign of life"


async def test_nobody_is_given_up_whose_packets_still_wait_in_the_socket(
    peers: Peers, mine: Peers
) -> None:
    async with nat.between(peers, mine) as (_, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await flows(ours, theirs, 0)
        loop, path = asyncio.get_running_loop(), theirs.ice.selected
        assert path is not None
        loop.remove_reader(peers.udp._watched)  # with more to do than it can
        ours.send_rtp(packet(100))
        await until(lambda: peers.udp.unread)
        late = path.seen = time.monotonic() - 100
        assert [theirs._tick(late + 100 + turn) and theirs.state for turn in range(8)] == (
            [PeerState.CONNECTED] * 8
        )
        while peers.udp.unread:
            peers.udp._read()
        assert path.seen > late
        assert theirs._tick(time.monotonic())
        assert theirs.state is PeerState.CONNECTED
        # Nothing waits, and nothing comes: that is the end.
        path.seen = late
        assert theirs._tick(late + 100)
        assert theirs._tick(late + 100.2) is None
        assert theirs.close_reason == "no sign of life"


async def test_a_socket_that_is_never_read_empty_keeps_nobody_for_ever(
    peers: Peers, mine: Peers
) -> None:
    async with nat.between(peers, mine) as (_, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        asyncio.get_running_loop().remove_reader(peers.udp._watched)
        ours.send_rtp(packet(100))
        await until(lambda: peers.udp.unread)
        assert theirs.ice.selected is not None
        theirs.ice.selected.seen = now = time.monotonic() - 100
        assert theirs._tick(now + 90)
        assert theirs._tick(now + 99)
        assert theirs._tick(now + 101) is None
        assert theirs.close_reason == "no sign of life"


async def test_a_quiet_peer_that_answers_stays(peers: Peers, mine: Peers) -> None:
    async with nat.between(peers, mine) as (_, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await asyncio.sleep(2.5)
        assert theirs.state is ours.state is PeerState.CONNECTED


async def test_packets_that_are_not_authentic_are_counted(peers: Peers, mine: Peers) -> None:
    async with nat.between(peers, mine) as (_, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await flows(ours, theirs, 0)
        got: list[bytes] = []
        theirs.on_rtp = theirs.on_rtcp = lambda data, now: got.append(data)
        seen = ours.ice.selected
        assert seen is not None
        protected = ours.srtp_protect(packet(900))
        bad = [
            b"\x80\x60" + bytes(100),
            b"\x80\xc8" + bytes(100),
            b"\x80\x60",
            b"\x80",
            b"\x80" + bytes(1600),
            protected[:-1] + bytes([protected[-1] ^ 1]),
            b"\x16\xfe\xfd" + bytes(30),
            b"\x15" + bytes(100),
            b"\x45" + bytes(100),
            b"\xff" * 100,
        ]
        count = peers.udp.statistics.received
        for data in bad:
            ours.transmit(data)
        ours.transmit(protected)
        await until(lambda: peers.udp.statistics.received >= count + len(bad) + 1)
        assert got == [packet(900)]
        assert theirs.statistics.refused == 3
        assert theirs.state is PeerState.CONNECTED
