"""A gateway with several addresses, bound to all: each peer hears from the one it wrote to.

127.0.0.2 and 127.0.0.3 need no setting up on Linux. The kernel's own choice of a source for
whatever goes to 127.0.0.1 is 127.0.0.1: a peer that knows of another one drops what comes so.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest

from relay.config import WebRtc
from relay.media.unit import Codec
from relay.protocols.webrtc.egress import Egress
from relay.protocols.webrtc.framing import Deframer, frame
from relay.protocols.webrtc.native_fanout import NativeSender
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.processes.session import FarViewer
from relay.protocols.webrtc.udp import UdpPort
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.live_publisher import publishing
from tests.protocols.webrtc.processes.hall import hall, running, until
from tests.protocols.webrtc.test_peer_moves import flows
from tests.protocols.webrtc.test_udp import request, session_on, settle

SECOND, THIRD = "127.0.0.2", "127.0.0.3"
PAIRS = ["127.0.0.2=127.0.0.2"]


@pytest.fixture(params=[False, True], ids=["pure", "native"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Peers]:
    """It is told to be at the second address alone, where a client then writes to."""
    made = await Peers.open(
        WebRtc(host="0.0.0.0", port=0, tcp_port=0, public_addresses=PAIRS, native=request.param)
    )
    assert (made.udp.native is not None) == request.param
    yield made
    await made.close()
    assert made.udp.idle


@pytest.fixture
def sender(server: Peers) -> NativeSender | None:
    return (
        NativeSender.over(server.udp.fileno(), server.udp.count) if server.settings.native else None
    )


async def connected(server: Peers, mine: Peers, *, send: bool) -> tuple[Peer, Peer]:
    offering = Offering(mine, send=send)
    theirs = await server.answer(offering.text, receive=send)
    offering.accept(theirs.answer)
    await reach(theirs, PeerState.CONNECTED)
    await reach(offering.peer, PeerState.CONNECTED)
    return offering.peer, theirs


async def consented(ours: Peer) -> None:
    """One more check of a client, as it sends them now and then, is answered from there."""
    path, before = ours.ice.selected, time.monotonic()
    assert path is not None
    ours.ice._check(path, before)
    await until(lambda: path.answered is not None and path.answered >= before)


def _keep(packets: list[bytes], data: bytes, now: float) -> None:
    packets.append(data)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
@pytest.mark.parametrize("native", [False, True], ids=["pure", "native"])
async def test_a_check_is_answered_from_the_address_it_came_to(host: str, native: bool) -> None:
    port = await UdpPort.open(host, 0)
    if native:
        port.read_natively()
    session = session_on(port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        client.settimeout(5)
        for number, own in enumerate([SECOND, "127.0.0.1", THIRD], 1):
            client.sendto(request(session), (own, port.port))
            await settle(port, number)
            assert client.recvfrom(2048)[1] == (own, port.port)
        # One remote port, three paths.
        assert len(session._paths) == 3
        assert len({address[:2] for address in session._paths}) == 1
    session.close()
    assert port.idle
    port.close()


async def test_ipv6_is_answered_from_the_address_that_was_asked() -> None:
    port = await UdpPort.open("::", 0)
    session = session_on(port)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.bind(("::1", 0))
        client.setblocking(False)
        client.sendto(request(session), ("::1", port.port))
        await settle(port, 1)
        assert client.recvfrom(2048)[1][:2] == ("::1", port.port)
        (address,) = session._paths
        assert address == (*client.getsockname(), "::1")
    session.close()
    port.close()


async def test_an_address_that_a_port_is_bound_to_is_its_only_one() -> None:
    """No source is named with it then, and nothing is asked of the kernel."""
    port = await UdpPort.open(SECOND, 0)
    session = session_on(port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        client.sendto(request(session), (SECOND, port.port))
        await settle(port, 1)
        assert list(session._paths) == [client.getsockname()]
    session.close()
    port.close()


async def test_a_client_that_knows_one_address_connects_and_media_flows_both_ways(
    server: Peers, mine: Peers
) -> None:
    ours, theirs = await connected(server, mine, send=True)
    await flows(ours, theirs, 0)
    await flows(theirs, ours, 1000)
    assert ours.address == (SECOND, server.udp.port)
    assert theirs.address == ("127.0.0.1", mine.udp.port, 0, 0, SECOND)
    assert mine.udp.statistics.strangers == 0  # nothing came from elsewhere


async def test_a_publisher_is_received_on_one_and_then_on_another(
    server: Peers, mine: Peers
) -> None:
    """Its packets, and what it is asked for, as on a port with one address."""
    async with publishing(server, mine) as publisher:
        await publisher.show()
        lost = publisher.sealed()
        await publisher.send([*lost[:1], *lost[2:]])  # a hole: it is asked for, and sent again
        await publisher.seen(publisher.sender.number - 1)
        await publisher.show()
        assert mine.udp.statistics.strangers == 0
        # All that it sends goes to another address from now on; it sends no check there.
        theirs = publisher.session.peer
        there = (THIRD, server.udp.port)
        publisher.peer.transmit = mine.udp.sender(there)
        async with asyncio.timeout(10):
            while theirs.address != ("127.0.0.1", mine.udp.port, 0, 0, THIRD):
                await publisher.send(publisher.sealed(keyframe=True))
                await asyncio.sleep(0.01)
        await publisher.goes_on()
        lane = publisher.session._lane
        assert lane is None or lane.active
        assert mine.udp.statistics.strangers == 0


async def test_viewers_of_two_addresses_are_sent_each_frame_from_their_own(
    server: Peers, mine: Peers, sender: NativeSender | None
) -> None:
    """Of many packets each, so that native code has them cut."""
    egress = Egress(server, sender)
    egress.open("show", on_keyframe_wanted=lambda: None)
    seen: list[list[bytes]] = []
    offerings = []
    for own in (SECOND, THIRD):
        offering = Offering(mine, send=False)
        session = await egress.answer("show", offering.text)
        offering.accept(session.answer.replace(SECOND, own))
        await reach(offering.peer, PeerState.CONNECTED)
        got: list[bytes] = []
        offering.peer.on_rtp = partial(_keep, got)
        seen.append(got)
        offerings.append(offering)
    for number in range(10):
        payloads = [bytes([0x65, number, at]) + bytes(1000) for at in range(30)]
        for got in seen:
            got.clear()
        egress.frame("show", Codec.H264, payloads, number * 3000, keyframe=True)
        await until(lambda: min(map(len, seen)) == 30)
    for offering in offerings:
        await consented(offering.peer)
    assert [offering.peer.address for offering in offerings] == [
        *((SECOND, server.udp.port), (THIRD, server.udp.port))
    ]
    assert mine.udp.statistics.strangers == 0
    assert server.udp.statistics.unsent == 0
    await egress.close("show", "over")


@pytest.mark.parametrize("native", [False, True], ids=["pure", "native"])
async def test_a_viewer_of_an_egress_process_is_served_from_there_too(native: bool) -> None:
    async with hall(host="0.0.0.0", public_addresses=PAIRS, native=native) as here:
        process = await here.started()
        watcher = await here.watcher(1)
        for _ in range(5):
            here.picture(keyframe=True, packets=20)
            here.sound()
        await until(lambda: len(watcher.pictures) == 100 and watcher.sounds == 5)
        assert watcher.peer.address == (SECOND, here.peers.udp.port)
        await consented(watcher.peer)
        # When the process is lost, the gateway says goodbye in its place: from there as well.
        watcher.peer.send_rtcp(bytes([0x80, 201, 0, 1]) + b"ssrc")
        session = watcher.session
        assert isinstance(session, FarViewer)
        await until(lambda: session.farewell[1])
        running(process).kill()
        await until(lambda: watcher.peer.state is PeerState.CLOSED)
        assert watcher.peer.close_reason == "closed by the peer"
        assert watcher.mine.udp.statistics.strangers == 0


async def test_one_port_of_a_router_may_be_two_peers(server: Peers) -> None:
    """Towards two of our addresses, each of which it maps by itself, by UDP and by TCP."""
    port, tcp = server.udp, server.tcp
    assert tcp is not None
    sessions = [session_on(port) for _ in range(2)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as router:
        router.bind(("127.0.0.1", 0))
        for session, own in zip(sessions, (SECOND, THIRD), strict=True):
            router.sendto(request(session), (own, port.port))
        await settle(port, 2)
        assert [session.selected is not None for session in sessions] == [True, True]
    for session in sessions:
        session.close()


async def test_one_port_of_a_router_may_be_two_connections(server: Peers) -> None:
    assert server.tcp is not None
    sessions = [session_on(server.udp) for _ in range(2)]
    loop = asyncio.get_running_loop()
    sockets: list[socket.socket] = []
    for session, own in zip(sessions, (SECOND, THIRD), strict=True):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sockets.append(sock)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", sockets[0].getsockname()[1]))
        await loop.sock_connect(sock, (own, server.tcp.port))
        await loop.sock_sendall(sock, frame(request(session)))
    for sock in sockets:
        frames = Deframer()
        assert frames.feed(await loop.sock_recv(sock, 2048))
    assert len(server.tcp) == 2
    for session, own in zip(sessions, (SECOND, THIRD), strict=True):
        assert session.selected is not None
        assert session.selected.address == (*sockets[0].getsockname(), own)
        session.close()
    for sock in sockets:
        sock.close()
