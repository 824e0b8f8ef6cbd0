"""A viewer that native code hears: what stays there, what comes up, and that nothing of it is
lost; with a client of ours at the other end of real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast
from unittest import mock

import pytest

from relay.protocols.webrtc import path as path_module
from relay.protocols.webrtc import stun
from relay.protocols.webrtc.congestion import FeedbackBuilder
from relay.protocols.webrtc.egress import Egress, EgressSession
from relay.protocols.webrtc.native_fanout import NativeSender
from relay.protocols.webrtc.path import Path
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.rtcp import (
    TRANSPORT_FEEDBACK,
    TWCC_FORMAT,
    Bye,
    PictureLoss,
    ReceiverReport,
    ReportBlock,
    Rtcp,
    Unknown,
    compound,
)
from relay.protocols.webrtc.stun import Address
from tests.protocols.webrtc import nat
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.test_peer_moves import until


class Watched:
    """A viewer's session, its client, and what came to Python."""

    def __init__(self, session: EgressSession, client: Peer, router: nat.Nat) -> None:
        self.session = session
        self.client = client
        self.router = router
        self.came: list[bytes] = []
        self._taken = session.peer.on_rtcp
        assert session.peer.hearing is not None
        session.peer.hearing._on_rtcp = self._rtcp

    def _rtcp(self, data: bytes, now: float) -> None:
        self.came.append(data)
        self._taken(data, now)

    @property
    def path(self) -> Path:
        path = self.session.peer.ice.selected
        assert path is not None
        return path

    def settled(self) -> bool:
        """Whether its checks are answered natively."""
        self.session.attend()
        return self.session.peer.hearing is not None and self.session.peer.hearing.consent.settled

    @property
    def opened(self) -> int:
        self.session.statistics(time.monotonic())
        return self.session.peer.statistics.unprotected

    async def say(self, *packets: Rtcp) -> None:
        """Send one compound, and wait until it was opened."""
        before = self.opened
        self.client.send_rtcp(compound(packets))
        await until(lambda: self.opened > before)

    def answered(self) -> float | None:
        """When the client last answered a check of ours."""
        self.path.refresh()
        return self.path.answered

    async def check(self) -> None:
        """Have the client check again, and wait until it was answered."""
        ice = self.client.ice
        path = ice.selected
        assert path is not None
        before = path.answered
        ice._check(path, time.monotonic())
        await until(lambda: path.answered != before)


@pytest.fixture
async def egress(peers: Peers) -> AsyncIterator[Egress]:
    made = Egress(peers, NativeSender.over(peers.udp.fileno(), peers.udp.count))
    made.open("show", on_keyframe_wanted=lambda: None)
    yield made
    await made.close("show", "test over")


@asynccontextmanager
async def watching(peers: Peers, mine: Peers, egress: Egress) -> AsyncIterator[Watched]:
    async with nat.between(peers, mine, send=False, egress=egress) as (router, client, ours):
        await reach(client, PeerState.CONNECTED)
        (session,) = egress._find("show").sessions.values()
        await until(lambda: ours.hearing is not None)
        watched = Watched(session, client, router)
        await until(watched.settled)
        yield watched


def block(watched: Watched, *, lost: int = 0, ssrc: int | None = None) -> ReportBlock:
    video = watched.session.viewer.video
    assert video is not None
    return ReportBlock(video.ssrc if ssrc is None else ssrc, lost, lost, 77, 900, 0, 0)


def stun_in_python(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    came: list[bytes] = []
    take = peers.udp._stun

    def stun(data: bytes, address: Address, now: float) -> None:
        came.append(data)
        take(data, address, now)

    monkeypatch.setattr(peers.udp, "_stun", stun)
    return came


async def test_its_checks_are_answered_and_nothing_of_them_comes_to_python(
    peers: Peers, mine: Peers, egress: Egress, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(peers, mine, egress) as watched:
        ice, theirs = watched.session.peer.ice, watched.client.ice
        assert theirs.selected is not None
        came = stun_in_python(peers, monkeypatch)
        for _ in range(3):
            counted, sent = ice.statistics.answered, peers.udp.statistics.sent
            await watched.check()
            watched.session.statistics(time.monotonic())
            assert ice.statistics.answered == counted + 1
            assert peers.udp.statistics.sent > sent
        assert came == []
        path = watched.path
        before_seen = path.seen
        path.refresh()
        assert path.seen > before_seen
        assert path.ours.used == path.seen
        assert path.nominated == path.seen  # each of them nominates


async def test_the_answers_to_our_checks_keep_its_consent(
    peers: Peers, mine: Peers, egress: Egress, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(peers, mine, egress) as watched:
        ice, path = watched.session.peer.ice, watched.path
        came = stun_in_python(peers, monkeypatch)
        before = path.answered
        assert before is not None
        ice._check(path, time.monotonic())
        await until(lambda: watched.answered() != before)
        assert came == []
        assert not ice._transactions
        now = time.monotonic()
        assert path.next_check > now + 1  # no need to ask again
        assert ice.expired(now) is None
        # One that is not answered is asked again; the answer to the first still counts.
        watched.router.hold = lambda data: data[:2] == b"\x01\x01"
        ice._check(path, time.monotonic())
        ice._check(path, time.monotonic())
        await until(lambda: len(watched.router._held) == 2)
        again = path.answered
        watched.router._outside.sendto(watched.router._held[0], (peers.udp.host, peers.udp.port))
        await until(lambda: watched.answered() != again)
        assert len(came) == 1


async def test_an_answer_that_is_no_success_is_pythons(
    peers: Peers, mine: Peers, egress: Egress
) -> None:
    async with watching(peers, mine, egress) as watched:
        ice, path = watched.session.peer.ice, watched.path
        watched.router.hold = lambda data: True
        ice._check(path, time.monotonic())
        *_, transaction = ice._transactions
        code = (stun.ERROR_CODE, b"\x00\x00\x04\x57Role Conflict")
        key = path.theirs.pwd.encode()
        watched.router.forge(stun.build(stun.BINDING_ERROR, transaction, [code], key))
        await until(lambda: ice.controlling)
        watched.session.attend()
        assert not watched.settled()  # who leads is to be settled first


async def test_reports_without_a_loss_wait_until_they_are_looked_at(
    peers: Peers, mine: Peers, egress: Egress
) -> None:
    async with watching(peers, mine, egress) as watched:
        viewer = watched.session.viewer
        viewer.reports.append((5 << 16, time.monotonic() - 0.05))
        one = block(watched)._replace(last_report=5 << 16)
        seen = watched.path.seen
        await watched.say(ReceiverReport(1, (one,)))
        assert watched.came == []
        told = watched.session.statistics(time.monotonic())
        assert told.jitter == pytest.approx(900 / 90_000)
        assert told.round_trip is not None
        assert told.round_trip >= 0.05
        watched.path.refresh()
        assert watched.path.seen > seen


@pytest.mark.parametrize("what", ["a loss", "of another", "two packets", "no block", "restless"])
async def test_what_is_not_the_common_case_comes_up_opened(
    peers: Peers, mine: Peers, egress: Egress, what: str
) -> None:
    async with watching(peers, mine, egress) as watched:
        said: dict[str, Iterable[Rtcp]] = {
            "a loss": [ReceiverReport(1, (block(watched, lost=3),))],
            "of another": [ReceiverReport(1, (block(watched, ssrc=99),))],
            "two packets": [ReceiverReport(1, (block(watched),)), Bye((1,))],
            "no block": [ReceiverReport(1, ())],
            "restless": [ReceiverReport(1, (block(watched),))],
        }
        if what == "restless":
            watched.session.viewer.link._hold(True, time.monotonic())
            watched.session.attend()
        await watched.say(*said[what])
        assert watched.came == [compound(said[what])]


def told(order: list[str], method: Any, *given: Any) -> Any:
    order.append(method.__name__)
    return method(*given)


async def test_a_report_is_taken_before_what_came_after_it(
    peers: Peers, mine: Peers, egress: Egress, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(peers, mine, egress) as watched:
        viewer = watched.session.viewer
        order: list[str] = []
        for name in ("note_report", "feedback"):
            method = mock.Mock(side_effect=partial(told, order, getattr(viewer, name)))
            monkeypatch.setattr(viewer, name, method)
        watched.client.send_rtcp(ReceiverReport(1, (block(watched),)).serialise())
        await watched.say(PictureLoss(1, block(watched).ssrc))
        await until(lambda: "feedback" in order)
        assert order == ["note_report", "feedback"]
        assert viewer.counters.keyframes_asked == 1


async def test_feedback_that_need_not_be_read_is_dropped_unopened(
    peers: Peers, mine: Peers, egress: Egress
) -> None:
    async with watching(peers, mine, egress) as watched:
        link, builder = watched.session.viewer.link, FeedbackBuilder(1)
        builder.arrived(7, 1000, 5.0)
        (feedback,) = builder.build()
        link.look_at = time.monotonic() + 60
        opened, received = watched.opened, peers.udp.statistics.received
        watched.client.send_rtcp(feedback.serialise())
        await until(lambda: peers.udp.statistics.received > received)
        assert watched.opened == opened
        link.look_at = 0.0
        watched.session.attend()
        await watched.say(Unknown(TRANSPORT_FEEDBACK, TWCC_FORMAT, feedback.serialise()[4:]))
        assert watched.came == [feedback.serialise()]


async def test_forged_replayed_and_cut_reports_are_counted_and_change_nothing(
    peers: Peers, mine: Peers, egress: Egress
) -> None:
    async with watching(peers, mine, egress) as watched:
        held: list[bytes] = []

        def listen(data: bytes) -> bool:
            held.append(data)
            return False

        watched.router.hold = listen
        await watched.say(ReceiverReport(1, (block(watched),)))
        (report,) = [data for data in held if 191 < data[1] < 224]
        forged = bytearray(report)
        forged[10] ^= 1
        bad = [report, bytes(forged), report[:40], report[:12]]
        refused = watched.session.peer.statistics.refused
        watched.path.refresh()
        seen = watched.path.seen
        for data in bad:
            watched.router.forge(data)

        def counted() -> bool:
            watched.session.statistics(time.monotonic())
            return watched.session.peer.statistics.refused >= refused + len(bad)

        await until(counted)
        watched.path.refresh()
        assert watched.path.seen == seen
        assert watched.came == []


async def test_a_session_may_end_while_it_is_heard(
    peers: Peers, mine: Peers, egress: Egress
) -> None:
    async with watching(peers, mine, egress) as watched:
        hearing = watched.session.peer.hearing
        assert hearing is not None
        hearing._on_rtcp = lambda data, now: watched.session.peer.end("enough")
        for _ in range(5):
            watched.client.send_rtcp(PictureLoss(1, 2).serialise())
        await until(lambda: watched.session.peer.state is PeerState.CLOSED)
        await asyncio.sleep(0.05)
        assert peers.udp.native is not None
        assert not peers.udp.native._viewers
        assert watched.session.peer.hearing is None


async def test_new_credentials_come_to_python_and_old_ones_end(
    peers: Peers, mine: Peers, egress: Egress
) -> None:
    async with watching(peers, mine, egress) as watched:
        ours, theirs = watched.session.peer.ice, watched.client.ice
        hearing = watched.session.peer.hearing
        assert hearing is not None
        # Both ends restart; the client goes on with the new names.
        name, password = theirs.renew(time.monotonic())
        theirs.set_remote(*ours.restart(name, password, time.monotonic()))
        assert theirs.selected is not None
        theirs.selected.renew(theirs.credentials.ours, theirs.credentials.theirs)
        await watched.check()
        assert watched.path.ours is ours.credentials.ours
        assert not ours.credentials.several  # it has nominated them
        watched.session.attend()
        assert hearing.consent.settled
        await watched.check()


async def test_it_is_not_given_up_while_only_native_code_hears_it(
    peers: Peers, mine: Peers, egress: Egress, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(peers, mine, egress) as watched:
        ice, path = watched.session.peer.ice, watched.path
        await watched.say(ReceiverReport(1, (block(watched),)))
        late = time.monotonic() + path_module.SILENCE - 0.5
        path.seen -= 100  # as far as Python knows
        assert not path.silent(late)
        ice.tick(time.monotonic())
        assert ice.expired(time.monotonic()) is None
        # and whoever has other credentials does not get its address
        stranger = Path(path.address, cast("Any", object()), path.ours, path.theirs, 0.0)
        assert not peers.udp.claim(path.address, stranger, late)
