"""What a peer with good keys may send over the real socket: its stream goes on, and no more."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from relay.media.unit import AccessUnit, Codec
from relay.protocols.webrtc.egress import Egress
from relay.protocols.webrtc.ingest import Ingest
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.rendition import KEYFRAME_INTERVAL
from relay.protocols.webrtc.rtcp import Nack, PictureLoss, compound
from relay.protocols.webrtc.srtp import SrtpError
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.test_peer_moves import until

KEY = b"\x78\x00\x04\x67\x42\xe0\x1f\x00\x02\x68\xce\x00\x09\x65" + b"\x88" * 8  # SPS, PPS, IDR
BAD_REPORTS = [
    b"\x81\xcb\x00\x01ssrc",  # BYE
    b"\x80\xc9\xff\xff" + bytes(8),  # a length beyond the end
    b"\x9f\xc9\x00\x01" + bytes(4),  # 31 blocks, none there
    b"\xa0\xc9\x00\x01" + bytes(3) + b"\xff",  # padding of 255 bytes
    b"\x8f\xcd\x00\x02" + bytes(8),  # transport feedback without a body
    b"\x81\xcd\x00\x03" + bytes(8) + b"\xff\xff\xff\xff",
]


class Sink:
    def __init__(self) -> None:
        self.units: list[AccessUnit] = []

    def unit(self, unit: AccessUnit) -> None:
        self.units.append(unit)

    def closed(self, reason: str) -> None:
        return


async def test_a_publisher_that_lies_in_every_header_is_heard_on(
    either: Peers, mine: Peers
) -> None:
    sink = Sink()
    offering = Offering(mine, send=True)
    session = await Ingest(either).answer(offering.text, sink)
    offering.accept(session.answer)
    await reach(offering.peer, PeerState.CONNECTED)
    track = offering.peer.video
    assert track is not None
    kind, sequence = track.payload_type, 65_530

    def picture(ticks: int, ssrc: int) -> bytes:
        head = bytes([0x80, kind | 0x80]) + (sequence & 0xFFFF).to_bytes(2, "big")
        return head + (ticks & 0xFFFFFFFF).to_bytes(4, "big") + ssrc.to_bytes(4, "big") + KEY

    def lies(ssrc: int) -> list[bytes]:
        tail = bytes(4) + ssrc.to_bytes(4, "big")
        rtx = bytes([0x80, track.rtx_payload_type or 0]) + b"\x00\x01" + bytes(4) + b"none" + KEY
        return [
            bytes([0x90, kind]) + b"\x00\x01" + tail + b"\xbe\xde\xff\xff" + bytes(8),
            bytes([0x90, kind]) + b"\x00\x02" + tail + b"\xbe\xde\x00\x01\x1f\x00\x00\x00",
            bytes([0xA0, kind]) + b"\x00\x03" + tail + b"\xff",  # padding beyond the packet
            bytes([0x8F, kind]) + b"\x00\x04" + tail + bytes(8),  # 15 sources, two there
            rtx,  # a retransmission of an unknown stream
            rtx[:12],
        ]

    hour = 3600 * 90_000
    steps = [(0, 1), (3000, 1), (2**32 - 1000, 1), (2000, 1), (hour, 1), (hour + 3000, 2)]
    for ticks, ssrc in steps:
        seen = len(sink.units)
        for lie in lies(ssrc):
            with suppress(SrtpError):  # some are too much for the sender's own library
                offering.peer.send_rtp(lie)
        for report in BAD_REPORTS:
            offering.peer.send_rtcp(report)
        async with asyncio.timeout(10):
            while len(sink.units) == seen:
                offering.peer.send_rtp(picture(ticks, ssrc))
                sequence, ticks = sequence + 1, ticks + 3000
                await asyncio.sleep(0.01)
    assert session.peer.state is PeerState.CONNECTED
    await session.close("test over")


async def test_a_viewer_that_storms_gets_little_by_it(peers: Peers, mine: Peers) -> None:
    wanted: list[float] = []
    egress = Egress(peers)
    egress.open("show", on_keyframe_wanted=lambda: wanted.append(time.monotonic()))
    offering = Offering(mine, send=False)
    session = await egress.answer("show", offering.text)
    offering.accept(session.answer)
    await reach(offering.peer, PeerState.CONNECTED)
    await until(lambda: egress.viewers("show")[0].connected_for is not None)
    got: list[bytes] = []
    offering.peer.on_rtp = lambda data, now: got.append(data)
    assert session.viewer.video is not None
    ssrc = session.viewer.video.ssrc
    begun = time.monotonic()
    viewer: Peer = offering.peer
    for number in range(100):
        egress.frame("show", Codec.H264, [KEY[3:]], number * 3000, keyframe=number == 0)
        for _ in range(5):
            viewer.send_rtcp(compound([PictureLoss(1, ssrc)]))
            viewer.send_rtcp(compound([Nack(1, ssrc, tuple(range(500)))]))
            viewer.send_rtcp(compound([Nack(1, 77, (1, 2))]))
        for report in BAD_REPORTS:
            viewer.send_rtcp(report)
        await asyncio.sleep(0.005)
    await until(lambda: egress.viewers("show")[0].packets == 100)
    spent = time.monotonic() - begun
    assert len(wanted) <= spent / KEYFRAME_INTERVAL + 2
    assert session.peer.state is PeerState.CONNECTED
    before = len(got)
    egress.frame("show", Codec.H264, [KEY[3:]], 101 * 3000, keyframe=True)
    await until(lambda: len(got) > before)
    await egress.close("show", "test over")
