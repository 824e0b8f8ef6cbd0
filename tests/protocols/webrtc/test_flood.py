"""One publisher's flood delays no other, whichever way packets are received."""

from __future__ import annotations

import asyncio
import time

import pytest

from relay.media.unit import AccessUnit, Codec
from relay.protocols.webrtc.budget import BURST, RATE, Budget
from relay.protocols.webrtc.ingest import Ingest, IngestSession
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peer import PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.reception import UNITS
from relay.protocols.webrtc.rtp import RtpPacket
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.source import Sender
from tests.protocols.webrtc.test_bad_peers import KEY
from tests.protocols.webrtc.test_peer_moves import until

PICTURES = 100
JUNK = 200  # datagrams of the other between two pictures: more than a batch


class Sink:
    def __init__(self) -> None:
        self.units: list[AccessUnit] = []
        self.came = asyncio.Event()

    def unit(self, unit: AccessUnit) -> None:
        self.units.append(unit)
        self.came.set()

    def closed(self, reason: str) -> None:
        return


@pytest.mark.parametrize("every", [0.0, 1e-6, 1e-5, 1e-3])
def test_a_budget_lets_through_what_it_says(every: float) -> None:
    budget, now, taken = Budget(5.0), 5.0, 0
    for _ in range(30_000):
        taken += budget.take(now)
        now += every
    assert taken <= 2 * BURST + (now - 5.0) * RATE
    assert taken >= min(30_000, BURST)
    assert every < 1e-3 or taken == 30_000


async def publisher(server: Peers, mine: Peers, sink: Sink) -> tuple[Offering, IngestSession]:
    offering = Offering(mine, send=True, audio=False)
    session = await Ingest(server).answer(offering.text, sink)
    offering.accept(session.answer)
    await reach(offering.peer, PeerState.CONNECTED)
    return offering, session


LIES = {
    "every second one": (2, b"\x41\x9ax"),
    "far apart": (900, b"\x41\x9ax"),
    "farther apart": (1000, b"\x41\x9ax"),
    "a picture each": (1, KEY),
}


@pytest.mark.parametrize("lie", LIES)
async def test_numbers_that_lie_delay_nobody_else(either: Peers, mine: Peers, lie: str) -> None:
    step, payload = LIES[lie]
    sink, flooded = Sink(), Sink()
    good, session = await publisher(either, mine, sink)
    other = await Peers.open(mine.settings)
    bad, flood = await publisher(either, other, flooded)
    sender, sequence, seal = Sender(), 0, bad.peer.srtp_protect
    began = time.monotonic()
    async with asyncio.timeout(10):  # some forty times as long as it takes
        for index in range(40):
            for count in range(JUNK // 2):
                sequence += step
                packet = RtpPacket(96, True, sequence & 0xFFFF, sequence * 9, 0x7777, payload)
                bad.peer.transmit(seal(packet.serialise()))
                if count % 50 == 49:
                    await asyncio.sleep(0)
            sink.came.clear()
            for packet in sender.next(keyframe=index == 0):
                good.peer.send_rtp(packet.serialise())
            await sink.came.wait()
    assert len(sink.units) == 40
    assert len(flooded.units) <= 2 * UNITS + UNITS * (time.monotonic() - began)
    assert bool(flooded.units) is (payload is KEY)
    assert session.statistics().lost == 0
    await flood.close("test over")
    await session.close("test over")
    await other.close()


async def test_a_flood_of_one_publisher_delays_no_other(either: Peers, mine: Peers) -> None:
    sink, flooded = Sink(), Sink()
    good, session = await publisher(either, mine, sink)
    other, source = await Peers.open(mine.settings), Sender(ssrc=0x7777)
    bad, flood = await publisher(either, other, flooded)
    sender = Sender()

    def send(offering: Offering, packets: list[RtpPacket]) -> None:
        track = offering.peer.video
        assert track is not None
        for packet in packets:
            packet.payload_type = track.payload_type
            offering.peer.send_rtp(packet.serialise())

    send(bad, source.next(keyframe=True, size=900))
    junk = bytes([0x80, bad.peer.video.payload_type if bad.peer.video else 0]) + b"\x01" * 60
    began = time.monotonic()
    for index in range(PICTURES):
        for at in range(JUNK):
            bad.peer.transmit(junk)
            if at % 50 == 49:
                await asyncio.sleep(0)  # the socket is small
        sink.came.clear()
        send(good, sender.next(keyframe=index == 0))
        async with asyncio.timeout(10):
            await sink.came.wait()
    spent = time.monotonic() - began
    seen = session.statistics()
    assert [unit.codec for unit in sink.units] == [Codec.H264] * PICTURES
    assert (seen.lost, session.peer.statistics.limited) == (0, 0)
    await flood.close("test over")
    counted = flood.peer.statistics
    assert counted.refused <= 2 * BURST + spent * RATE
    assert counted.limited + counted.refused <= PICTURES * JUNK
    assert counted.limited > 0 or spent * RATE > PICTURES * JUNK - BURST
    await session.close("test over")
    await other.close()


async def test_who_forges_a_publishers_address_takes_nothing_from_it(
    either: Peers, mine: Peers
) -> None:
    sink = Sink()
    good, session = await publisher(either, mine, sink)
    sender, track = Sender(), good.peer.video
    assert track is not None
    junk = bytes([0x80, track.payload_type]) + b"\x01" * 60  # of no SSRC of its own

    def send(*, keyframe: bool) -> None:
        for packet in sender.next(keyframe=keyframe):
            packet.payload_type = track.payload_type
            good.peer.send_rtp(packet.serialise())

    send(keyframe=True)
    counted, sent = session.peer.statistics, 1
    async with asyncio.timeout(30):
        while counted.limited < JUNK or sent < PICTURES // 2:
            for at in range(4 * JUNK):
                good.peer.transmit(junk)
                if at % 50 == 49:
                    await asyncio.sleep(0)
            send(keyframe=False)
            sent += 1
            await asyncio.sleep(0)
            session.statistics()
            if session._lane is not None:
                session._lane.count(counted)
        await until(lambda: len(sink.units) == sent)
    assert session.statistics().lost == 0
    await session.close("test over")
