"""Receiver reports that leave natively, against Python's of the same packets; and the checks of
ours that go along."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from relay.config import WebRtc
from relay.protocols.webrtc import stun
from relay.protocols.webrtc.ice import IceSession
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.receiver_reports import ATTENDED, REPORT_INTERVAL
from relay.protocols.webrtc.rtcp import (
    TRANSPORT_FEEDBACK,
    ReceiverReport,
    SenderReport,
    parse_compound,
)
from tests.protocols.webrtc.live_publisher import publishing
from tests.protocols.webrtc.source import SSRC, Sender
from tests.protocols.webrtc.test_native_receive import (
    AUDIO_SSRC,
    Both,
    Sounds,
    numbered,
    told_by,
)
from tests.protocols.webrtc.test_peer_moves import until
from tests.protocols.webrtc.test_rebind import filming, found


class Reported:
    """A stream, both ways, whose reports leave natively the one way."""

    def __init__(self, both: Both) -> None:
        self.both, self.sender, self.sent = both, Sender(sequence=65_500), 0
        for publisher in (both.native, both.pure):
            publisher.peer.ice.selected = publisher.peer.heard
        self.send(keyframe=True)
        self.tell()

    def send(self, *, keyframe: bool = False, lost: int = 0) -> None:
        packets = numbered(self.sender.next(keyframe=keyframe), self.sent)
        self.sent += len(packets)
        self.both.send(packets[lost:])

    def tell(self) -> None:
        """Python's turn, both ways."""
        for publisher in (self.both.native, self.both.pure):
            publisher.session._reporting.tell(self.both.now)

    def natively(self) -> list[bytes]:
        """Receiver reports since the last call."""
        peer = self.both.native.peer
        came = self.both.inlet.told(peer)
        peer.rtcp += came
        return [data for data in came if data[1] == 201]

    def by_python(self) -> bytes:
        """What it reports at this moment; the native path is not asked."""
        self.both.pure.session._reporting.tell(self.both.now)
        return self.both.pure.peer.rtcp[-1]

    @property
    def due(self) -> float:
        return self.both.native.session._reporting.due_at


@pytest.fixture
async def reported() -> AsyncIterator[Reported]:
    both = Both(sound=True)
    yield Reported(both)
    both.close()


async def test_one_a_second_leaves_that_says_what_python_would(reported: Reported) -> None:
    both, compared = reported.both, 0
    assert reported.due == both.now + ATTENDED
    before = len(both.native.peer.rtcp)
    for publisher in (both.native, both.pure):
        clock = SenderReport(SSRC, 0x0123456789ABCDEF, 7, 1, 1).serialise()
        publisher.peer.on_rtcp(clock, both.now)
    for index in range(200):
        reported.send(keyframe=index % 60 == 0)
        for native in reported.natively():
            assert native == reported.by_python()
            compared += 1
    assert 5 <= compared <= 200 / 30 + 1
    reports = [data for data in both.native.peer.rtcp[before:] if data[1] == 201]
    assert len(reports) == compared, "Python sent none beside them"
    both.same_pictures()


async def test_transport_feedback_leaves_natively_likewise(
    reported: Reported, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, sent = reported.both, 0

    def by_python(data: bytes) -> None:
        nonlocal sent
        sent += data[1] == TRANSPORT_FEEDBACK
        both.native.peer.rtcp.append(data)

    for _ in range(5):  # until it is known from where it goes on
        reported.send()
    monkeypatch.setattr(both.native.session._arrivals, "_send", by_python)
    for _ in range(60):
        reported.send()
        reported.natively()
    assert sent == 0
    (came, _), (wanted, _) = told_by(both.native), told_by(both.pure)
    assert came == wanted
    assert len(came) == reported.sent


async def test_where_something_is_lost_python_goes_on_and_nothing_is_told_twice(
    reported: Reported,
) -> None:
    both = reported.both
    for _ in range(40):
        reported.send()
        if reported.natively():
            reported.by_python()
    reported.send(lost=1)
    reported.send()
    assert reported.natively() == []
    both.now = max(both.now, reported.due)
    reported.tell()
    ours, theirs = (
        next(data for data in reversed(publisher.peer.rtcp) if data[1] == 201)
        for publisher in (both.native, both.pure)
    )
    assert ours == theirs
    report = parse_compound(ours)[0]
    assert isinstance(report, ReceiverReport)
    (block,) = report.blocks
    assert block.lost == 1
    assert block.fraction_lost > 0
    assert reported.due == both.now + REPORT_INTERVAL


async def test_where_no_picture_comes_python_reports(reported: Reported) -> None:
    both = reported.both
    both.now = reported.due
    before = len(both.native.peer.rtcp)
    reported.tell()
    assert len(both.native.peer.rtcp) == before + 1
    assert reported.natively() == []


async def test_where_sound_comes_python_reports_of_both_until_it_is_native_too(
    reported: Reported,
) -> None:
    both, sounds, compared = reported.both, Sounds(), 0
    both.send([sounds.next().serialise()])
    assert reported.due <= both.now + REPORT_INTERVAL
    for _ in range(40):
        reported.send()
    assert reported.natively() == []
    reported.tell()
    for ssrc in (SSRC, AUDIO_SSRC):
        for publisher in (both.native, both.pure):
            clock = SenderReport(ssrc, 0x0123456789ABCDEF + ssrc, 7, 1, 1).serialise()
            publisher.peer.on_rtcp(clock, both.now)
    before = len(both.native.peer.rtcp)
    for index in range(300):
        if index % 2:
            reported.send()
        else:
            both.send([sounds.next().serialise()])
        for native in reported.natively():
            assert native == reported.by_python()
            report = parse_compound(native)[0]
            assert isinstance(report, ReceiverReport)
            assert [block.ssrc for block in report.blocks] == [SSRC, AUDIO_SSRC]
            assert all(block.last_report for block in report.blocks)
            compared += 1
    assert compared >= 5
    reports = [data for data in both.native.peer.rtcp[before:] if data[1] == 201]
    assert len(reports) == compared, "Python sent none beside them"
    sounds.next()  # and one is lost
    both.send([sounds.next().serialise()])
    both.now += 1
    reported.tell()
    last = parse_compound(both.native.peer.rtcp[-1])[0]
    assert isinstance(last, ReceiverReport)
    assert [block.lost for block in last.blocks] == [0, 1]
    assert last.blocks == parse_compound(both.pure.peer.rtcp[-1])[0].blocks  # type: ignore[union-attr]


async def test_where_they_cannot_be_sealed_python_says_so(reported: Reported) -> None:
    both = reported.both
    both.inlet.unsealed = 7
    for _ in range(40):
        reported.send()
    assert reported.natively() == []
    before = len(both.native.peer.rtcp)
    both.now = reported.due
    reported.tell()
    assert len(both.native.peer.rtcp) == before + 1


# -- on the real socket


@pytest.fixture
async def native() -> AsyncIterator[Peers]:
    made = await Peers.open(WebRtc(host="127.0.0.1", port=0, native=True))
    assert made.udp.native is not None
    yield made
    await made.close()
    assert made.udp.idle


async def test_a_publishers_checks_and_ours_stay_native(
    native: Peers, mine: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[bytes] = []
    real = native.udp._stun
    async with publishing(native, mine) as publisher:
        session, client = publisher.session, publisher.peer.ice
        lane, ice = session._lane, session.peer.ice
        assert lane is not None
        async with asyncio.timeout(10):
            while not lane.consent.settled:
                await publisher.show()
                session._reporting.due_at = 0.0
                session._wake()

        def python(data: bytes, address: stun.Address, now: float) -> None:
            came.append(data)
            real(data, address, now)

        monkeypatch.setattr(native.udp, "_stun", python)
        session._reporting.count()
        path, answered = client.selected, ice.statistics.answered
        assert path is not None
        before = path.answered
        client._check(path, time.monotonic())
        await until(lambda: path.answered != before)
        session._reporting.count()
        assert ice.statistics.answered == answered + 1
        asked: list[stun.Message] = []
        request = client.request

        def told(message: stun.Message, address: stun.Address, now: float) -> None:
            asked.append(message)
            request(message, address, now)

        monkeypatch.setattr(IceSession, "request", lambda self, *said: told(*said))
        lane._stream.consent.ask_at = 1.0
        lane._stream.reporting.due = 1.0
        seen = lane._stream.consent.answered
        await publisher.show()
        await until(lambda: asked and lane._stream.consent.answered != seen)
        assert not came, "no check, and no answer, came to Python"


async def test_after_a_move_they_leave_from_the_new_path(native: Peers, mine: Peers) -> None:
    async with filming(native, mine) as (router, theirs, publisher, sink):
        session = publisher.session
        lane = session._lane
        assert lane is not None
        for _ in range(2):
            async with asyncio.timeout(10):
                while not lane.consent.settled:
                    await publisher.show()
                    session._reporting.due_at = 0.0
                    session._wake()
            assert lane.reports(0.0)
            path = theirs.ice.selected
            assert path is not None
            assert path.native is not None
            await found(publisher, sink, theirs, await router.rebind())
            assert path.native is None, "what comes from where it was goes to Python"
            assert lane.consent.path is not path
        await publisher.show()
        assert publisher.numbers == list(range(publisher.sender.number))
