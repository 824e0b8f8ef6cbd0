"""A peer, with an ordinary aiortc client at the other end, over loopback."""

from __future__ import annotations

import asyncio

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from av import AudioFrame

from relay.config import WebRtc
from relay.errors import Unavailable, Unprocessable
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from tests.protocols.webrtc import aiortc_client, offers
from tests.protocols.webrtc.aiortc_client import OPUS_SILENCE, connect, connection, offer_of, reach


async def publish(client: RTCPeerConnection, peers: Peers) -> Peer:
    client.addTrack(aiortc_client.audio_track())
    peer = await connect(client, peers, receive=True)
    await reach(peer, PeerState.CONNECTED)
    return peer


async def first_packet(peer: Peer) -> bytes:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def take(packet: bytes, now: float) -> None:
        if not got.done():
            got.set_result(packet)

    peer.on_rtp = take
    async with asyncio.timeout(5):
        return await got


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


async def test_a_viewer_gets_what_is_sent(peers: Peers) -> None:
    async with connection() as client:
        client.addTransceiver("audio", direction="recvonly")
        peer = await connect(client, peers, receive=False)
        track = client.getReceivers()[0].track
        await reach(peer, PeerState.CONNECTED)
        assert peer.audio is not None
        head = bytes([0x80, peer.audio.payload_type])
        ssrc = peer.audio.ssrc.to_bytes(4, "big")
        frame = asyncio.create_task(track.recv())
        for index in range(20):
            number, ticks = index.to_bytes(2, "big"), (960 * index).to_bytes(4, "big")
            peer.send_rtp(head + number + ticks + ssrc + OPUS_SILENCE)
            await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            assert isinstance(await frame, AudioFrame)


async def test_a_client_that_closes_is_gone_at_once(peers: Peers) -> None:
    async with connection() as client:
        peer = await publish(client, peers)
        await first_packet(peer)
    async with asyncio.timeout(2):
        await reach(peer, PeerState.CLOSED)
    assert peer.close_reason == "closed by the peer"


async def test_our_goodbye_reaches_the_client_and_nothing_follows(peers: Peers) -> None:
    async with connection() as client:
        peer = await publish(client, peers)
        closed = asyncio.Event()
        client.on(
            "connectionstatechange",
            lambda: closed.set() if client.connectionState == "closed" else None,
        )
        await peer.close("kicked")
        peer.send_rtp(bytes(20))
        peer.send_rtcp(bytes(20))
        peer.transmit(b"x")
        async with asyncio.timeout(5):
            await closed.wait()


@pytest.mark.parametrize("setup", ["active", "passive"])
async def test_both_dtls_roles(peers: Peers, setup: str) -> None:
    async with connection() as client:
        client.addTrack(aiortc_client.audio_track())
        offer = (await offer_of(client)).replace("a=setup:actpass", f"a=setup:{setup}")
        peer = await peers.answer(offer, receive=True)
        await client.setRemoteDescription(RTCSessionDescription(sdp=peer.answer, type="answer"))
        await reach(peer, PeerState.CONNECTED)
        assert await first_packet(peer)


async def test_another_certificate_than_the_one_promised(peers: Peers) -> None:
    async with connection() as client:
        client.addTrack(aiortc_client.audio_track())
        offer = await offer_of(client)
        lines = [line for line in offer.splitlines() if not line.startswith("a=fingerprint")]
        false = "\r\n".join([*lines, offers.FINGERPRINT]) + "\r\n"
        peer = await peers.answer(false, receive=True)
        got: list[bytes] = []
        peer.on_rtp = lambda packet, now: got.append(packet)
        await client.setRemoteDescription(RTCSessionDescription(sdp=peer.answer, type="answer"))
        await reach(peer, PeerState.CLOSED)
        assert peer.close_reason == "the certificate does not fit the fingerprint"
        assert got == []


async def test_a_refused_offer_leaves_nothing_behind(peers: Peers) -> None:
    with pytest.raises(Unprocessable):
        await peers.answer(offers.viewer(), receive=True)
    assert len(peers) == 0
    assert peers.udp.idle


async def test_many_answers_that_nobody_uses(peers: Peers) -> None:
    for _ in range(300):
        peer = await peers.answer(offers.CHROMIUM, receive=True)
        await peer.close("deleted")
    assert len(peers) == 0
    assert peers.udp.idle


async def test_going_away() -> None:
    peers = await Peers.open(WebRtc(host="127.0.0.1", port=0))
    peer = await peers.answer(offers.publisher(), receive=True)
    await peers.close()
    assert peer.close_reason == "going away"
    with pytest.raises(Unavailable):
        await peers.answer(offers.publisher(), receive=True)


async def test_an_answer_that_is_never_used_ends() -> None:
    peers = await Peers.open(WebRtc(host="127.0.0.1", port=0, connect_timeout=0.05))
    peer = await peers.answer(offers.publisher(), receive=True)
    await reach(peer, PeerState.CLOSED)
    assert peer.close_reason == (
        f"not connected in time: nothing of it came to 127.0.0.1:{peers.udp.port}"
    )
    assert peers.udp.idle
    await peers.close()


async def test_public_addresses_are_told_in_place_of_the_bound_one() -> None:
    settings = WebRtc(
        host="127.0.0.1", port=0, public_addresses=["2001:db8::5", "198.51.100.7", "10.0.0.7"]
    )
    peers = await Peers.open(settings)
    answer = (await peers.answer(offers.publisher(), receive=True)).answer
    port = peers.udp.port
    lines = [line for line in answer.split("\r\n") if line.startswith("a=candidate")]
    assert f" 198.51.100.7 {port} typ host" in lines[0]
    assert f" 10.0.0.7 {port} typ host" in lines[1]
    assert f" 2001:db8::5 {port} typ host" in lines[2]
    assert "127.0.0.1" not in "".join(lines)
    await peers.close()


@pytest.mark.parametrize("setup", ["active", "passive"])
async def test_who_was_answered_before_the_certificate_is_renewed_connects_after_it(
    peers: Peers, mine: Peers, setup: str
) -> None:
    """Both ends have a new one by then, and whoever comes later is told of that."""

    async def offered() -> tuple[Offering, Peer]:
        offering = Offering(mine, send=True)
        offer = offering.text.replace("a=setup:actpass", f"a=setup:{setup}")
        return offering, await peers.answer(offer, receive=True)

    before = await offered()
    peers._certificate_made -= 20 * 86400
    mine._certificate_made -= 20 * 86400
    after = await offered()
    assert fingerprint(before[1].answer) != fingerprint(after[1].answer)
    assert fingerprint(before[0].text) != fingerprint(after[0].text)
    for offering, peer in (before, after):
        offering.accept(peer.answer)
        await reach(peer, PeerState.CONNECTED)
        await reach(offering.peer, PeerState.CONNECTED)
        await offering.peer.close("test over")
        await reach(peer, PeerState.CLOSED)


def fingerprint(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("a=fingerprint"))
