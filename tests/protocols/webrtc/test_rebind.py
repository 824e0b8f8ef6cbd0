"""A router gives a peer another address in mid-stream: its picture goes on within a second.

Nobody knows of it, and no check of the client's own helps. It takes some 150 ms, and each test
has it three times. A second is one of the stream, counted in pictures that were sent meanwhile:
a machine that stalls sends none either.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from statistics import median
from unittest import mock

import pytest

from relay.media.unit import VIDEO_CLOCK
from relay.protocols.webrtc import receive
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
EVERY = 0.03
"""Seconds of a publisher's stream that a picture is for."""


@asynccontextmanager
async def filming(
    either: Peers, mine: Peers
) -> AsyncIterator[tuple[nat.Nat, Peer, Publisher, Sink]]:
    """A publisher behind a router, with two pictures sent; the gateway's peer, and what it got.

    What is missing is waited for however long the machine stalls: this publisher never sends
    another key frame.
    """
    sink = Sink()
    with mock.patch.object(receive, "GIVE_UP", 60.0):
        async with nat.between(either, mine) as (router, ours, theirs):
            session = IngestSession(theirs, sink)
            await reach(ours, PeerState.CONNECTED)
            publisher = Publisher(ours, session, sink)
            await publisher.show(keyframe=True)
            await publisher.show()
            yield router, theirs, publisher, sink
            await session.close("test over")


async def found(
    publisher: Publisher,
    sink: Sink,
    theirs: Peer,
    outward: Address,
    *,
    seen: int = -1,
    within: float = 10.0,
) -> float:
    """It sends as before, with no notion of another address, until it is heard from there, and
    more than ``seen`` units have come; how many seconds of its stream it takes."""
    first, took = publisher.sender.number, 0.0
    while len(sink.units) <= seen or theirs.address != outward:
        assert took < within, "it is not heard"
        await publisher.send(publisher.sealed())
        await asyncio.sleep(EVERY)
        took = (publisher.sender.number - first) * EVERY
    return took


async def test_of_a_publisher_no_picture_is_lost_and_the_next_comes_within_a_second(
    either: Peers, mine: Peers
) -> None:
    async with filming(either, mine) as (router, theirs, publisher, sink):
        router.hold = is_check
        took: list[float] = []
        for _ in range(TIMES):
            outward = await router.rebind()
            took.append(await found(publisher, sink, theirs, outward, seen=len(sink.units)))
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
        await found(publisher, sink, theirs, outward, within=2.0)


@pytest.fixture(params=[False, True], ids=["python", "native"])
async def egress(request: pytest.FixtureRequest, peers: Peers) -> AsyncIterator[Egress]:
    native = NativeSender.over(peers.udp.fileno(), peers.udp.count) if request.param else None
    assert bool(native) is request.param
    made = Egress(peers, native)
    made.open("show", on_keyframe_wanted=lambda: None)
    yield made
    await made.close("show", "test over")


def shown_at(packet: bytes) -> int:
    """The moment of the stream's that it is for, in ticks of the clock of video."""
    return int.from_bytes(packet[4:8], "big")


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
            """Seconds of the stream that it has missed."""
            last = shown_at(seen[-1])
            outward = await router.rebind()
            # What comes before has left for the old address, and was still under way.
            await until(lambda: theirs.address == outward)
            seen.clear()
            await until(lambda: seen)
            return (shown_at(seen[0]) - last) % (1 << 32) / VIDEO_CLOCK

        async with saying(ours, words(), every):
            await until(lambda: theirs.heard_rtcp)
            took = [await rebound() for _ in range(TIMES)]
        assert median(took) < BAR
        assert theirs.ice.statistics.moves == TIMES
