"""A router gives a peer another address in mid-stream: its picture goes on within a second.

Nobody knows of it, and no check of the client's own helps. It takes some 150 ms, and each test
has it three times: that a loaded machine stalls one of them proves nothing, two would.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from statistics import median

import pytest

from relay.protocols.webrtc.egress import Egress
from relay.protocols.webrtc.ingest import IngestSession
from relay.protocols.webrtc.native_fanout import NativeSender
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.stun import Address
from tests.protocols.webrtc import nat
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.live_publisher import Publisher, Sink
from tests.protocols.webrtc.test_peer_moves import until
from tests.protocols.webrtc.test_viewer_moves import Told, is_check, report, saying, watching

BAR = 1.0
TIMES = 3


@asynccontextmanager
async def filming(
    either: Peers, mine: Peers
) -> AsyncIterator[tuple[nat.Nat, Peer, Publisher, Sink]]:
    """A publisher behind a router, with two pictures sent; the gateway's peer, and what it got."""
    sink = Sink()
    async with nat.between(either, mine) as (router, ours, theirs):
        session = IngestSession(theirs, sink)
        await reach(ours, PeerState.CONNECTED)
        publisher = Publisher(ours, session, sink)
        await publisher.show(keyframe=True)
        await publisher.show()
        yield router, theirs, publisher, sink
        await session.close("test over")


async def found(
    publisher: Publisher, sink: Sink, theirs: Peer, outward: Address, seen: int = -1
) -> None:
    """It sends as before, with no notion of another address, until it is heard from there, and
    more than ``seen`` units have come."""
    async with asyncio.timeout(10):
        while len(sink.units) <= seen or theirs.address != outward:
            await publisher.send(publisher.sealed())
            await asyncio.sleep(0.03)


async def test_of_a_publisher_no_picture_is_lost_and_the_next_comes_within_a_second(
    either: Peers, mine: Peers
) -> None:
    async with filming(either, mine) as (router, theirs, publisher, sink):
        router.hold = is_check
        took: list[float] = []
        for _ in range(TIMES):
            outward = await router.rebind()
            rebound, seen = time.monotonic(), len(sink.units)
            await found(publisher, sink, theirs, outward, seen)
            took.append(sink.units[seen].arrival - rebound)
            await publisher.show()
        assert median(took) < BAR
        assert publisher.numbers == list(range(publisher.sender.number))
        assert theirs.ice.statistics.moves == TIMES


async def test_so_it_does_when_the_last_that_came_was_sent_again(
    either: Peers, mine: Peers
) -> None:
    """Retransmissions have an SSRC of their own, and none may follow for long."""
    async with filming(either, mine) as (router, theirs, publisher, sink):
        again = publisher.sender.retransmission(publisher.sender.sequence - 1)
        assert publisher.rtx_ssrc is not None
        again.ssrc = publisher.rtx_ssrc
        before = theirs.statistics.unprotected
        await publisher.send([publisher.seal(again)])
        await until(lambda: theirs.statistics.unprotected > before)
        router.hold = is_check
        outward = await router.rebind()
        async with asyncio.timeout(2):
            await found(publisher, sink, theirs, outward)


@pytest.fixture(params=[False, True], ids=["python", "native"])
async def egress(request: pytest.FixtureRequest, peers: Peers) -> AsyncIterator[Egress]:
    native = NativeSender.over(peers.udp.fileno(), peers.udp.count) if request.param else None
    assert bool(native) is request.param
    made = Egress(peers, native)
    made.open("show", on_keyframe_wanted=lambda: None)
    yield made
    await made.close("show", "test over")


@pytest.mark.parametrize(
    ("words", "every"), [(Told, 0.05), (lambda: report, 0.4)], ids=["feedback", "reports only"]
)
async def test_to_a_viewer_the_picture_goes_on_within_a_second(
    peers: Peers,
    mine: Peers,
    egress: Egress,
    words: Callable[[], Callable[[], bytes]],
    every: float,
) -> None:
    async with watching(peers, mine, egress) as (router, ours, theirs, seen):

        async def rebound() -> float:
            outward = await router.rebind()
            began = time.monotonic()
            # What comes before has left for the old address, and was still under way.
            await until(lambda: theirs.address == outward)
            seen.clear()
            await until(lambda: seen)
            return time.monotonic() - began

        async with saying(ours, words(), every):
            await until(lambda: theirs.heard_rtcp)
            took = [await rebound() for _ in range(TIMES)]
        assert median(took) < BAR
        assert theirs.ice.statistics.moves == TIMES
