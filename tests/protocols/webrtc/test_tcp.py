"""ICE-TCP: the same sessions for those whose UDP is blocked, and what strangers may do."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from relay.config import WebRtc
from relay.errors import ConfigError
from relay.media.unit import Codec
from relay.protocols.webrtc import stun, tcp
from relay.protocols.webrtc.egress import Egress
from relay.protocols.webrtc.framing import frame
from relay.protocols.webrtc.native_fanout import NativeSender
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peer import PeerState
from relay.protocols.webrtc.peers import Peers
from tests.protocols.webrtc import nat, offers
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.bridge import Bridge, behind_firewall
from tests.protocols.webrtc.test_peer_moves import flows, until

WITH_TCP = WebRtc(host="127.0.0.1", port=0, tcp_port=0, consent_timeout=2.0)


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    made = await Peers.open(WITH_TCP)
    yield made
    await made.close()
    assert made.udp.idle
    assert made.tcp is not None
    await until(lambda: len(made.tcp or ()) == 0)


@pytest.fixture
async def mine() -> AsyncIterator[Peers]:
    made = await Peers.open(WebRtc(host="127.0.0.1", port=0, consent_timeout=2.0))
    yield made
    await made.close()


@pytest.fixture
async def strangers(peers: Peers) -> AsyncIterator[list[asyncio.StreamWriter]]:
    opened: list[asyncio.StreamWriter] = []
    yield opened
    for writer in opened:
        writer.transport.abort()


async def stranger(
    peers: Peers, opened: list[asyncio.StreamWriter]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    assert peers.tcp is not None
    reader, writer = await asyncio.open_connection(peers.udp.host, peers.tcp.port)
    opened.append(writer)
    return reader, writer


def collect(tails: list[bytes]) -> Callable[[bytes, float], None]:
    return lambda data, now: tails.append(data[-40:])


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that came until the other side ended it."""
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def test_passive_candidates_stand_behind_those_of_udp(peers: Peers) -> None:
    assert peers.tcp is not None
    answer = (await peers.answer(offers.publisher(), receive=True)).answer
    lines = [line for line in answer.split("\r\n") if line.startswith("a=candidate")]
    udp, by_tcp = lines[0].split(), lines[1].split()
    assert udp[2] == "udp"
    assert by_tcp[1:3] == ["1", "tcp"]
    assert by_tcp[4:] == ["127.0.0.1", str(peers.tcp.port), "typ", "host", "tcptype", "passive"]
    assert int(by_tcp[3]) < int(udp[3])
    assert udp[0] != by_tcp[0]


async def test_without_a_port_there_is_no_tcp() -> None:
    made = await Peers.open(WebRtc(host="127.0.0.1", port=0))
    assert made.tcp is None
    assert " tcp " not in (await made.answer(offers.publisher(), receive=True)).answer
    await made.close()


async def test_a_taken_port_is_told(peers: Peers) -> None:
    assert peers.tcp is not None
    with pytest.raises(ConfigError) as caught:
        await Peers.open(WITH_TCP.model_copy(update={"tcp_port": peers.tcp.port}))
    assert caught.value.code == "tcp_bind"


async def test_media_flows_both_ways_by_tcp_alone(peers: Peers, mine: Peers) -> None:
    async with behind_firewall(peers, mine) as (_, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await reach(theirs, PeerState.CONNECTED)
        assert theirs.address is not None
        assert theirs.address[2] == "tcp"
        await flows(ours, theirs, 0)
        await flows(theirs, ours, 1000)
        await ours.close("done")
        await reach(theirs, PeerState.CLOSED)
        assert theirs.close_reason == "closed by the peer"


@pytest.mark.parametrize("native", [True, False])
async def test_a_viewer_behind_a_firewall_sees_what_others_see(
    peers: Peers, mine: Peers, native: bool
) -> None:
    sender = NativeSender.over(peers.udp.fileno(), peers.udp.count) if native else None
    assert not native or sender is not None
    egress = Egress(peers, sender)
    egress.open("show", on_keyframe_wanted=lambda: None)
    assert peers.tcp is not None
    bridge = Bridge((peers.udp.host, peers.tcp.port))
    await bridge.open()
    other = await Peers.open(WebRtc(host="127.0.0.1", port=0))
    got: list[list[bytes]] = [[], []]
    reports: list[bytes] = []
    offerings = [Offering(mine, send=False), Offering(other, send=False)]
    for index, offering in enumerate(offerings):
        session = await egress.answer("show", offering.text)
        answer = session.peer.answer
        offering.peer.on_rtp = collect(got[index])
        if index == 0:
            answer = bridge.through(answer)
            offering.peer.on_rtcp = lambda data, now: reports.append(data)
        offering.accept(answer)
    for offering in offerings:
        await reach(offering.peer, PeerState.CONNECTED)
    await until(lambda: all(v.state != "new" for v in egress.viewers("show")))
    sent = [bytes([0x65, number]) + os.urandom(900) for number in range(50)]
    for number, payload in enumerate(sent):
        payloads = [payload, payload[::-1]]
        egress.frame("show", Codec.H264, payloads, number * 3000, keyframe=number == 0)
        await asyncio.sleep(0.002)
    tails = [tail for p in sent for tail in (p[-40:], p[::-1][-40:])]
    await until(lambda: min(map(len, got)) == len(tails))
    assert got == [tails, tails]
    await until(lambda: any(report[1] == 200 for report in reports))  # sender reports too
    assert {v.packets for v in egress.viewers("show")} == {100}
    await egress.close("show", "over")
    await bridge.close()
    await other.close()


async def test_a_connection_that_ends_may_be_followed_by_another(peers: Peers, mine: Peers) -> None:
    async with behind_firewall(peers, mine) as (bridge, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await reach(theirs, PeerState.CONNECTED)
        first = theirs.address
        await bridge.connect()
        await until(lambda: theirs.address not in (first, None))
        await flows(ours, theirs, 0)
        await flows(theirs, ours, 1000)


async def test_a_connection_that_ends_alone_ends_its_peer(peers: Peers, mine: Peers) -> None:
    async with behind_firewall(peers, mine) as (bridge, _, theirs):
        await reach(theirs, PeerState.CONNECTED)
        bridge.writer.transport.abort()
        await reach(theirs, PeerState.CLOSED)
        assert theirs.close_reason == "no sign of life"


async def test_a_peer_that_does_not_read_is_left_and_holds_little(
    peers: Peers, mine: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "STUCK", 0.3)
    assert peers.tcp is not None
    async with behind_firewall(peers, mine) as (bridge, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await reach(theirs, PeerState.CONNECTED)
        connection = next(iter(peers.tcp._connections))
        bridge.writer.transport.pause_reading()  # type: ignore[attr-defined]
        before = peers.udp.statistics.unsent
        packet = bytes([0x80, 96]) + bytes(10) + os.urandom(1200)
        held = 0
        for number in range(20_000):
            theirs.send_rtp(packet[:2] + (number & 0xFFFF).to_bytes(2, "big") + packet[4:])
            held = max(held, connection.transport.get_write_buffer_size())
            if peers.udp.statistics.unsent > before + 100:
                break
        assert 0 < held < tcp.MAX_UNREAD + 2000
        await until(lambda: len(peers.tcp or ()) == 0)


async def test_who_says_nothing_is_left(
    peers: Peers, strangers: list[asyncio.StreamWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "UNKNOWN_LIFE", 0.2)
    reader, _ = await stranger(peers, strangers)
    slow, writer = await stranger(peers, strangers)
    writer.write(b"\x00")
    assert await ended(reader) == b""
    assert await ended(slow) == b""


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff",
        frame(b"\x16\xfe\xfd" + bytes(9)),  # a ClientHello before any check
        frame(b"\x80\x60" + bytes(12)),
        frame(bytes(20)) * (tcp.MAX_CHECKS + 1),
        frame(stun.build(stun.BINDING_REQUEST, bytes(12), [(stun.USERNAME, b"x:y")], b"k"))
        * (tcp.MAX_CHECKS + 1),
    ],
)
async def test_strangers_hear_nothing_and_are_dropped(
    peers: Peers, strangers: list[asyncio.StreamWriter], said: bytes
) -> None:
    reader, writer = await stranger(peers, strangers)
    writer.write(said)
    assert await ended(reader) == b""


async def test_silent_connections_keep_nobody_out(
    peers: Peers,
    mine: Peers,
    strangers: list[asyncio.StreamWriter],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tcp, "MAX_UNKNOWN", 20)
    assert peers.tcp is not None
    readers = [(await stranger(peers, strangers))[0] for _ in range(60)]
    await until(lambda: len(peers.tcp or ()) == 20)
    assert [await ended(reader) for reader in readers[:40]] == [b""] * 40  # the oldest went
    async with behind_firewall(peers, mine) as (_, ours, theirs):
        await reach(theirs, PeerState.CONNECTED)
        await reach(ours, PeerState.CONNECTED)
        await flows(ours, theirs, 0)


async def test_one_host_may_have_so_many_unknown_connections(
    peers: Peers, strangers: list[asyncio.StreamWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "MAX_UNKNOWN_OF_A_HOST", 10)
    assert peers.tcp is not None
    readers = [(await stranger(peers, strangers))[0] for _ in range(15)]
    assert [await ended(reader) for reader in readers[10:]] == [b""] * 5
    assert len(peers.tcp) == 10


async def test_a_stranger_by_tcp_takes_no_place_of_a_peer_by_udp(
    peers: Peers, mine: Peers, strangers: list[asyncio.StreamWriter]
) -> None:
    async with nat.between(peers, mine) as (_, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        await flows(ours, theirs, 0)
        before = theirs.address
        reader, writer = await stranger(peers, strangers)
        attributes = [
            (stun.USERNAME, f"{theirs.ice.ufrag}:x".encode()),
            (stun.USE_CANDIDATE, b""),
        ]
        check = stun.build(stun.BINDING_REQUEST, os.urandom(12), attributes, b"p" * 24)
        writer.write(frame(check) * (tcp.MAX_CHECKS + 1))
        assert await ended(reader) == b""
        assert theirs.address == before
        await flows(theirs, ours, 1000)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


async def test_another_servers_port_is_not_taken_and_nothing_stays_open(taken: int) -> None:
    with pytest.raises(ConfigError, match=str(taken)):
        await Peers.open(WebRtc(host="127.0.0.1", port=0, tcp_port=taken))
