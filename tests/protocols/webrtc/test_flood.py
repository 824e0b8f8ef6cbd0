"""One publisher's flood delays no other, whichever way packets are received."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest

from relay.media.unit import AccessUnit, Codec
from relay.protocols.webrtc.budget import BURST, RATE, Budget
from relay.protocols.webrtc.dtls import Dtls
from relay.protocols.webrtc.ingest import Ingest, IngestSession
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peer import PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.receive import MAX_HELD, SEEK_AGAIN, VideoReceiver
from relay.protocols.webrtc.reception import UNITS
from relay.protocols.webrtc.repair import HOLES_A_SECOND, HOLES_AT_ONCE, Repair
from relay.protocols.webrtc.rtp import RtpPacket
from relay.protocols.webrtc.turns import RECORDS_BURST
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


def fill_no_more(budget: Budget) -> None:
    """For an hour: then counts tell all, and no time is needed."""
    budget.state = budget.state[0], time.monotonic() + 3600


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


@dataclass
class Work:
    """What is done for packets that are missing, of all streams.

    Attributes:
        noted: packets that were missed.
        looks: at one that is held, for a key frame.
    """

    noted: int = 0
    looks: int = 0


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    counted, missed, seek = Work(), Repair.missed, VideoReceiver._seek_keyframe

    def note(self: Repair, first: int, end: int, now: float) -> None:
        counted.noted += end - first
        missed(self, first, end, now)

    def look(self: VideoReceiver, at: int, now: float) -> None:
        counted.looks += 1
        seek(self, at, now)

    monkeypatch.setattr(Repair, "missed", note)
    monkeypatch.setattr(VideoReceiver, "_seek_keyframe", look)
    return counted


@pytest.mark.parametrize("lie", LIES)
async def test_numbers_that_lie_delay_nobody_else(
    either: Peers, mine: Peers, lie: str, work: Work
) -> None:
    step, payload = LIES[lie]
    sink, flooded = Sink(), Sink()
    good, session = await publisher(either, mine, sink)
    other = await Peers.open(mine.settings)
    bad, flood = await publisher(either, other, flooded)
    sender, sent, seal = Sender(), 0, bad.peer.srtp_protect
    assert flood._video is not None
    fill_no_more(flood._video.pace)
    began = time.monotonic()
    async with asyncio.timeout(10):  # some forty times as long as it takes
        for index in range(40):
            for count in range(JUNK // 2):
                sent += 1
                number = sent * step
                packet = RtpPacket(96, True, number & 0xFFFF, number * 9, 0x7777, payload)
                bad.peer.transmit(seal(packet.serialise()))
                if count % 50 == 49:
                    await asyncio.sleep(0)
            sink.came.clear()
            for packet in sender.next(keyframe=index == 0):
                good.peer.send_rtp(packet.serialise())
            await sink.came.wait()
    spent = time.monotonic() - began
    assert len(sink.units) == 40
    if payload is KEY:
        assert 0 < len(flooded.units) <= UNITS < sent
    else:
        assert flooded.units == []
    assert work.noted <= HOLES_AT_ONCE + HOLES_A_SECOND * spent
    assert work.looks <= sent + MAX_HELD * (spent / SEEK_AGAIN + 2)
    assert session.statistics().lost == 0
    await flood.close("test over")
    await session.close("test over")
    await other.close()


@pytest.mark.parametrize("ssrc", [0x7777, 0x01010101], ids=["its own", "nobody's"])
async def test_a_flood_of_one_publisher_delays_no_other(
    either: Peers, mine: Peers, ssrc: int
) -> None:
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
    async with asyncio.timeout(10):
        await flooded.came.wait()
    assert bad.peer.video is not None
    kind, number = bad.peer.video.payload_type, source.sequence
    # In order, as native code opens it at once; its tag is wrong.
    junk = RtpPacket(kind, False, number, 5000, ssrc, b"\x01" * 60).serialise()
    fill_no_more(flood.peer._budget._known)
    fill_no_more(flood.peer._budget._others)
    if (lane := flood._lane) is not None:
        lane._stream.route.refilled = lane._stream.others_at = time.monotonic() + 3600
    for index in range(PICTURES):
        for at in range(JUNK):
            bad.peer.transmit(junk)
            if at % 50 == 49:
                await asyncio.sleep(0)  # the socket is small
        sink.came.clear()
        send(good, sender.next(keyframe=index == 0))
        async with asyncio.timeout(10):
            await sink.came.wait()
    seen = session.statistics()
    assert [unit.codec for unit in sink.units] == [Codec.H264] * PICTURES
    assert (seen.lost, session.peer.statistics.limited) == (0, 0)
    await flood.close("test over")
    counted = flood.peer.statistics
    # Of twenty thousand as many were opened as may be, and nothing was done with the rest.
    assert 0 < counted.refused <= BURST
    assert 0 < counted.limited <= PICTURES * JUNK - counted.refused
    await session.close("test over")
    await other.close()


@pytest.mark.parametrize(
    "record", [b"\x17\xfe\xfd\0\1" + bytes(8), b"\x16\xfe\xfd" + bytes(10)], ids=["data", "again"]
)
async def test_of_a_flood_of_records_a_handshakes_worth_is_read(
    either: Peers, mine: Peers, record: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    receive = Dtls.receive

    def counted(self: Dtls, data: bytes, now: float) -> list[bytes]:
        nonlocal read
        read += data == record
        return receive(self, data, now)

    good, session = await publisher(either, mine, Sink())
    monkeypatch.setattr(Dtls, "receive", counted)
    fill_no_more(session.peer._shaking._budget)
    for _ in range(100):
        for _ in range(10):  # fewer than may wait
            good.peer.transmit(record)
        await asyncio.sleep(0.001)
    async with asyncio.timeout(10):
        while read + session.peer.statistics.limited < 900:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert 0 < read <= RECORDS_BURST
    assert either.dropped["dtls"] == session.peer.statistics.limited
    assert session.peer.state is PeerState.CONNECTED
    await session.close("test over")


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
    async with asyncio.timeout(10):
        await sink.came.wait()
    fill_no_more(session.peer._budget._others)
    if session._lane is not None:
        session._lane._stream.others_at = time.monotonic() + 3600
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
