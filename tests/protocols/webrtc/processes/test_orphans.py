"""Viewers of a lost process know at once: those that just came, and those half-way in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from relay.config import WebRtc
from relay.errors import NotFound
from relay.protocols.webrtc import stun
from relay.protocols.webrtc.egress import EgressSession
from relay.protocols.webrtc.ice import REFUSED
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.processes import orphans as orphans_module
from relay.protocols.webrtc.processes.messages import Reply
from relay.protocols.webrtc.processes.session import FarViewer
from relay.protocols.webrtc.rtcp import ReceiverReport, compound
from tests.protocols.webrtc import offers
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.processes.hall import SHOW, Hall, hall, running, until

REPORT = compound([ReceiverReport(1, ())])

TOLD = 1.0
"""Seconds; silence takes ten."""


async def ended(peer: Peer) -> str:
    async with asyncio.timeout(TOLD):
        await reach(peer, PeerState.CLOSED)
    return peer.close_reason


async def killed(made: Hall) -> None:
    """The process, and the gateway knows."""
    process = made.process()
    running(process).kill()
    await until(lambda: process._gone.is_set())


@asynccontextmanager
async def half_way(made: Hall) -> AsyncIterator[tuple[Offering, FarViewer]]:
    """A viewer that has its answer and has done nothing with it."""
    mine = await Peers.open(WebRtc(host="127.0.0.1", port=0))
    try:
        offering = Offering(mine, send=False)
        session = await made.egress.answer(SHOW, offering.text)
        assert isinstance(session, FarViewer)
        yield offering, session
    finally:
        await mine.close()


def deaf(peer: Peer, to: Callable[[bytes], bool]) -> Callable[[], None]:
    """Have it lose some of what comes that is no STUN; returns what ends that."""
    hear = peer.ice.on_datagram
    peer.ice.on_datagram = lambda data, path, now: None if to(data) else hear(data, path, now)

    def mend() -> None:
        peer.ice.on_datagram = hear

    return mend


async def test_whoever_is_on_the_way_in_is_told_at_once() -> None:
    async with hall() as made:
        process = await made.started()
        async with (
            half_way(made) as (asking, answered),
            half_way(made) as (forger, forged),
            half_way(made) as (shaking, shaken),
            half_way(made) as (missing, missed),
        ):
            shaking.accept(shaken.answer)
            begun = deaf(shaking.peer, lambda data: True)
            missing.accept(missed.answer)
            # All but the last flight, which the kernel and the first goodbye have overtaken.
            cut = deaf(missing.peer, lambda data: bool(missed.farewell[1]) or data[0] == 20)
            await until(lambda: len(process._far.addresses) == 2 and missed.farewell[1])
            await asyncio.sleep(0.05)
            assert not shaken.farewell[1]
            assert missing.peer.state is PeerState.NEW
            begun()
            cut()
            connected = [await made.watcher(1) for _ in range(3)]
            await killed(made)
            for viewer in connected:  # the last a moment ago
                assert await ended(viewer.peer) == "closed by the peer"
            assert await ended(missing.peer) == "closed by the peer"
            assert "handshake failed" in await ended(shaking.peer)
            asking.accept(answered.answer)
            assert await ended(asking.peer) == REFUSED
            forger.accept(forged.answer.replace("a=ice-pwd:", "a=ice-pwd:x"))
            await until(lambda: forger.peer.ice._transactions)
            await asyncio.sleep(0.1)
            assert not forger._peers.udp.statistics.received  # nobody else is answered
            assert forger.peer.state is PeerState.NEW


async def test_whose_goodbye_is_lost_hears_when_it_reports_or_checks() -> None:
    async with hall() as made:
        await made.started()
        reporting, checking = await made.watcher(1), await made.watcher(1)
        mend = deaf(reporting.peer, lambda data: True)
        deaf(checking.peer, lambda data: True)
        await killed(made)
        path = checking.peer.ice.selected
        assert path is not None
        checking.peer.ice._check(path, time.monotonic())
        assert await ended(checking.peer) == REFUSED
        await asyncio.sleep(orphans_module.SPACING)
        mend()
        assert reporting.peer.state is PeerState.CONNECTED
        reporting.peer.send_rtcp(REPORT)
        assert await ended(reporting.peer) == "closed by the peer"
        made.where = 0
        again = Offering(reporting.mine, send=False)  # from where it was
        session = await made.egress.answer(SHOW, again.text)
        again.accept(session.answer)
        await until(lambda: again.peer.state is PeerState.CONNECTED)


async def test_orphans_are_told_so_often_and_forgotten_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(orphans_module, "SPACING", 0.0)
    monkeypatch.setattr(orphans_module, "LINGER", 0.5)
    monkeypatch.setattr(orphans_module, "MAX_NAMES", 2)
    monkeypatch.setattr(orphans_module, "MAX_ADDRESSES", 2)
    async with hall() as made:
        await made.started()
        viewers = [await made.watcher(1) for _ in range(3)]
        heard: list[bytes] = []
        last = viewers[-1]

        def note(data: bytes) -> bool:
            heard.append(data)
            return True

        deaf(last.peer, note)
        orphans = made.egress._orphans
        await killed(made)
        assert len(orphans._names) == len(orphans._held) == 2
        for viewer in viewers[:-1]:  # told, all the same
            assert await ended(viewer.peer) == "closed by the peer"
        for _ in range(20):
            last.peer.send_rtcp(REPORT)
            await asyncio.sleep(0.005)
        goodbyes = [data for data in heard if data[0] == 21]
        assert len(goodbyes) == orphans_module.MAX_TOLD
        assert len(set(goodbyes)) == 1  # the same record each time
        await until(lambda: not orphans._names and not orphans._held)


async def test_calls_that_wait_are_answered_when_the_process_dies() -> None:
    async with hall() as made:
        process = await made.started()
        async with half_way(made) as (_, session):
            running(process).suspend()
            patching = asyncio.create_task(session.patch(b"", "*"))
            await until(lambda: process._calls)
            [patch] = process._calls
            answering = asyncio.create_task(made.egress.answer(SHOW, offers.viewer()))
            await until(lambda: len(process._calls) == 2)
            [number] = process._calls.keys() - {patch}
            process._take(Reply(number, {"id": "x", "answer": "v=0", "etag": '"x"'}))
            process._lost("it ended")  # both in one read
            assert isinstance(await answering, EgressSession)  # that was its last word
            with pytest.raises(NotFound, match="a new offer is answered") as caught:
                await patching
            assert caught.value.code == "session_ended"


def test_the_alert_is_of_a_handshake_that_knows_no_keys() -> None:
    alert = orphans_module.ALERT
    assert alert[:5] == b"\x15\xfe\xfd\0\0"  # DTLS 1.2, epoch 0
    assert int.from_bytes(alert[5:11], "big") > 1 << 16
    assert alert[11:] == b"\0\2\2\x50"  # fatal, internal_error


def test_a_refusal_is_no_longer_than_a_check() -> None:
    check = stun.build(
        stun.BINDING_REQUEST, bytes(12), [(stun.USERNAME, b"a:b"), (stun.PRIORITY, bytes(4))], b"k"
    )
    refusal = stun.error(stun.parse(check), 400, "Lost", b"k")
    assert stun.parse(refusal).error_code() == 400
    assert len(refusal) <= len(check)
