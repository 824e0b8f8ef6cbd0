"""What may come from a viewer's own address, on the real socket: cut, again, forged, too much.

Where the native part hears viewers it answers their checks and keeps their reports; what it is
given here it has to judge as Python does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from relay.media.unit import Codec
from relay.protocols.webrtc import stun
from relay.protocols.webrtc.budget import REPORT_BURST, REPORT_RATE
from relay.protocols.webrtc.egress import Egress, EgressSession
from relay.protocols.webrtc.native_fanout import NativeSender
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.rtcp import (
    Nack,
    PictureLoss,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    compound,
)
from relay.protocols.webrtc.udp import UdpPort
from tests.protocols.webrtc import nat
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.live_publisher import publishing
from tests.protocols.webrtc.nat import Nat
from tests.protocols.webrtc.test_amplification import check
from tests.protocols.webrtc.test_bad_peers import BAD_REPORTS
from tests.protocols.webrtc.test_peer_moves import until

ANSWERS_A_SECOND = 2 * 50
"""Python has its budget, and the native part another."""


class Watching:
    """A viewer that sees pictures; what it says goes through its router.

    Attributes:
        seen: packets that came.
        wanted: key frames that were asked for.
    """

    def __init__(self, egress: Egress, router: Nat, ours: Peer, session: EgressSession) -> None:
        self.egress, self.router, self.ours, self.session = egress, router, ours, session
        self.seen: list[bytes] = []
        self.number = 0
        ours.on_rtp = lambda data, now: self.seen.append(data)

    @property
    def peer(self) -> Peer:
        return self.session.peer

    @property
    def ssrc(self) -> int:
        assert self.session.viewer.video is not None
        return self.session.viewer.video.ssrc

    @property
    def refused(self) -> int:
        hearing = self.peer.hearing
        if hearing is not None:
            hearing.count(self.peer.statistics)
        return self.peer.statistics.refused

    def is_settled(self) -> bool:
        """Whether its checks are answered natively, too."""
        self.session.attend()
        return self.peer.hearing is not None and self.peer.hearing.consent.settled

    def seal(self, packet: bytes) -> bytes:
        return self.ours._protect_rtcp(packet)

    async def send(self, datagrams: list[bytes]) -> None:
        """All of them are read when it returns."""
        server = self.peer._peers.udp
        for at in range(0, len(datagrams), 40):
            part = datagrams[at : at + 40]
            due = server.statistics.received + len(part)
            for datagram in part:
                self.router.forge(datagram)
            await until(partial(_reached, server, due))

    async def goes_on(self) -> None:
        for _ in range(3):
            self.seen.clear()
            self.number += 1
            self.egress.frame(
                "show", Codec.H264, [b"\x65picture"], self.number * 3000, keyframe=True
            )
            await until(lambda: self.seen)
        assert self.peer.state is self.ours.state is PeerState.CONNECTED


def _reached(server: UdpPort, due: int) -> bool:
    return server.statistics.received >= due


@asynccontextmanager
async def watching(server: Peers, mine: Peers) -> AsyncIterator[Watching]:
    native = server.udp.native is not None
    sender = NativeSender.over(server.udp.fileno(), server.udp.count) if native else None
    egress = Egress(server, sender)
    egress.open("show", on_keyframe_wanted=lambda: None)
    async with nat.between(server, mine, send=False, egress=egress) as (router, ours, theirs):
        await reach(ours, PeerState.CONNECTED)
        (session,) = egress._renditions["show"].sessions.values()
        made = Watching(egress, router, ours, session)
        await until(lambda: theirs.state is PeerState.CONNECTED)
        await made.goes_on()
        assert (theirs.hearing is not None) is native
        if native:
            await until(made.is_settled)
        yield made
    await egress.close("show", "test over")


def block(ssrc: int, lost: int, highest: int) -> ReportBlock:
    return ReportBlock(ssrc, lost, 0, highest, 0, 0, 0)


async def test_reports_cut_at_each_length_and_sent_again_say_what_they_say_once(
    either: Peers, mine: Peers
) -> None:
    async with watching(either, mine) as viewer:
        counters = viewer.session.viewer.counters
        said = [
            ReceiverReport(1, (block(viewer.ssrc, 0, 1),)).serialise(),
            compound([ReceiverReport(1, (block(viewer.ssrc, 64, 2),))]),
            Nack(1, viewer.ssrc, (9, 10, 11)).serialise(),
            PictureLoss(1, viewer.ssrc).serialise(),
        ]
        for words in said:
            whole = viewer.seal(words)
            await viewer.send([whole[:length] for length in range(1, len(whole))])
            await viewer.send([whole, whole, whole])
        assert (counters.nacked, counters.keyframes_asked) == (3, 1)
        assert counters.fraction_lost == 0.25
        # All that could be a packet, and each copy of a whole one.
        assert viewer.refused >= sum(len(words) - 12 + 2 for words in said)
        await viewer.goes_on()


async def test_malformed_reports_with_a_good_seal_say_nothing(either: Peers, mine: Peers) -> None:
    async with watching(either, mine) as viewer:
        before = viewer.session.statistics(0.0)
        shapes = [*BAD_REPORTS, *(bytes([0x80 + count, kind]) + words
            for count in (0, 1, 5, 31)
            for kind in (200, 201, 202, 203, 204, 205, 206, 207, 223)
            for words in (
                b"\x00\x01ssrc",
                b"\x00\x00",
                b"\x00\x07ssrc" + viewer.ssrc.to_bytes(4, "big") + b"\xff" * 20,
                b"\xff\xffssrc" + bytes(40),
            ))]  # fmt: skip
        await viewer.send([viewer.seal(shape) for shape in shapes if len(shape) >= 8])
        after = viewer.session.statistics(0.0)
        assert (after.state, after.pauses) == (before.state, 0)
        assert viewer.peer.address is not None
        await viewer.goes_on()


async def test_a_flood_of_reports_is_read_in_part(either: Peers, mine: Peers) -> None:
    async with watching(either, mine) as viewer:
        counters, limited = viewer.session.viewer.counters, viewer.peer.statistics.limited
        begun = time.monotonic()
        # Each would cost half a thousandth of a second, if it were read.
        words = Nack(1, viewer.ssrc, tuple(range(900))).serialise()
        await viewer.send([viewer.seal(words) for _ in range(2500)])
        read = 2 * REPORT_BURST + REPORT_RATE * (time.monotonic() - begun)
        assert 0 < counters.nacked <= 900 * read
        assert viewer.peer.statistics.limited - limited >= 2500 - read
        await viewer.goes_on()


async def test_a_publishers_flood_of_reports_is_read_in_part(either: Peers, mine: Peers) -> None:
    async with publishing(either, mine) as publisher:
        begun = time.monotonic()
        report = SenderReport(publisher.sender.ssrc, 5 << 32, 0, 1, 100).serialise()
        seal = publisher.peer._protect_rtcp
        await publisher.send([seal(report) for _ in range(2500)])
        read = 2 * REPORT_BURST + REPORT_RATE * (time.monotonic() - begun)
        statistics = publisher.session.peer.statistics
        await until(lambda: statistics.limited >= 2500 - read)
        await publisher.goes_on()


async def test_checks_cut_at_each_length_or_forged_are_answered_by_nothing(
    either: Peers, mine: Peers
) -> None:
    async with watching(either, mine) as viewer:
        answered: list[bytes] = []
        viewer.router.told = lambda data: answered.append(data) if data[0] == 1 else None
        good = check(viewer.peer, (stun.USE_CANDIDATE, b""))
        forged = [
            good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :]
            for at in range(len(good) - 8)  # all but the fingerprint, which may be left out
            for bit in (1, 128)
        ]
        before = viewer.peer.address
        await viewer.send([good[:length] for length in range(1, len(good))])
        await viewer.send(forged[:900])
        await asyncio.sleep(0.05)
        whole = [data for data in answered if data[8:20] == good[8:20]]
        # One that has lost nothing but its fingerprint is whole (RFC 8489 section 7).
        assert len(whole) <= 1
        assert viewer.peer.address == before
        answered.clear()
        await asyncio.sleep(1.0)  # another second, another thousand
        await viewer.send([good])
        await until(lambda: [data for data in answered if data[8:20] == good[8:20]])
        await viewer.goes_on()


async def test_answers_to_checks_of_ours_that_are_not_right_are_no_answers(
    either: Peers, mine: Peers
) -> None:
    async with watching(either, mine) as viewer:
        peer, ice = viewer.peer, viewer.peer.ice
        selected = ice.selected
        assert selected is not None
        answered = selected.answered
        there = (peer.ice.selected.address if peer.ice.selected else ("", 0))[:2]
        request = stun.parse(check(peer))
        wrong = [
            stun.success(request, there, b"wrong"),
            stun.success(request, there, ice.remote.pwd.encode()),  # of no check of ours
            stun.build(stun.BINDING_ERROR, bytes(12), [], b"k"),
        ]
        await viewer.send([data[:length] for data in wrong for length in range(1, len(data) + 1)])
        selected.refresh()
        assert selected.answered == answered
        await viewer.goes_on()


async def test_a_flood_of_good_checks_is_answered_in_part(either: Peers, mine: Peers) -> None:
    async with watching(either, mine) as viewer:
        answers: list[int] = []
        viewer.router.told = lambda data: answers.append(len(data)) if data[0] == 1 else None
        good = check(viewer.peer)
        begun = time.monotonic()
        await viewer.send([good] * 1000)
        spent = time.monotonic() - begun
        await asyncio.sleep(0.05)
        assert 0 < len(answers) <= ANSWERS_A_SECOND * (1 + spent) + 1
        assert max(answers) <= len(good)
        await viewer.goes_on()
