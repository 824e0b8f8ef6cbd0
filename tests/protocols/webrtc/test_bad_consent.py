"""Who talks and answers no check, and who answers no longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.config import WebRtc
from relay.protocols.webrtc import ice, path
from relay.protocols.webrtc.egress import Egress
from relay.protocols.webrtc.native_fanout import NativeSender
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from tests.protocols.webrtc import nat
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.nat import Nat
from tests.protocols.webrtc.test_peer_moves import packet, until
from tests.protocols.webrtc.test_viewer_moves import saying

QUICK = WebRtc(host="127.0.0.1", port=0, consent_timeout=0.8)


@pytest.fixture(params=[False, True], ids=["pure", "native"])
async def peers(request: pytest.FixtureRequest) -> AsyncIterator[Peers]:
    made = await Peers.open(QUICK.model_copy(update={"native": request.param}))
    yield made
    await made.close()
    assert made.udp.idle


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ice, path):
        monkeypatch.setattr(module, "CONSENT_LIFE", 1.0)
    monkeypatch.setattr(path, "_RETRY", 0.2)


@pytest.fixture
async def egress(peers: Peers) -> AsyncIterator[Egress]:
    native = peers.udp.native is not None
    sender = NativeSender.over(peers.udp.fileno(), peers.udp.count) if native else None
    made = Egress(peers, sender)
    made.open("show", on_keyframe_wanted=lambda: None)
    yield made
    await made.close("show", "test over")


def is_answer(data: bytes) -> bool:
    return data[:2] == b"\x01\x01"


def words() -> bytes:
    return b"\x80\xc9\x00\x01ssrc"


@asynccontextmanager
async def client(
    peers: Peers, egress: Egress, *, send: bool
) -> AsyncIterator[tuple[Nat, Peer, Peer]]:
    """A publisher or a viewer, behind a router; see ``nat.between``."""
    mine = await Peers.open(QUICK)
    by = None if send else egress
    async with nat.between(peers, mine, send=send, egress=by) as made:
        yield made
    await mine.close()


async def test_who_talks_and_never_answered_a_check_is_served_as_long_as_it_talks(
    peers: Peers, egress: Egress
) -> None:
    # Its handshake says that it is there: as much as an answer would.
    async def talk(send: bool) -> None:
        async with client(peers, egress, send=send) as (router, ours, theirs):
            router.hold = is_answer
            got: list[bytes] = []
            ours.on_rtp = lambda data, now: got.append(data)
            async with saying(ours, words, 0.01):
                await until(lambda: theirs.state is PeerState.CONNECTED)
                await asyncio.sleep(1.7)  # twice the time that silence has
                assert theirs.state is PeerState.CONNECTED
                theirs.send_rtp(packet(7))
                await until(lambda: got)
            selected = theirs.ice.selected
            assert selected is not None
            assert selected.answered is None
            assert ours.ice.statistics.answered <= 2 * 7 + 2  # our checks, which it had
            assert len(theirs.ice._transactions) <= 7
            router.hold = lambda data: True
            await until(lambda: theirs.state is PeerState.CLOSED)
            assert theirs.close_reason == "no sign of life"

    await asyncio.gather(talk(True), talk(False))


async def test_who_talks_and_answers_no_longer_has_withdrawn_its_consent(
    peers: Peers, egress: Egress
) -> None:
    async def talk(send: bool) -> None:
        async with client(peers, egress, send=send) as (router, ours, theirs):
            await reach(ours, PeerState.CONNECTED)
            await until(lambda: theirs.ice.selected and theirs.ice.selected.answered)
            async with saying(ours, words, 0.01):
                await asyncio.sleep(1.2)
                assert theirs.state is PeerState.CONNECTED
                router.hold = is_answer
                asked = ours.ice.statistics.answered
                await until(lambda: theirs.state is PeerState.CLOSED)
                assert theirs.close_reason == "consent expired"
                assert 0 < ours.ice.statistics.answered - asked <= 10
                got: list[bytes] = []
                ours.on_rtp = lambda data, now: got.append(data)
                theirs.send_rtp(packet(7))
                await asyncio.sleep(0.05)
                assert got == []

    await asyncio.gather(talk(True), talk(False))
