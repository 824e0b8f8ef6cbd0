"""A viewer behind a router that gives it another address in mid-stream: its picture goes on.

Its client knows nothing of it and checks nothing meanwhile; what it reports is what tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from relay.media.unit import Codec
from relay.protocols.webrtc.congestion import FeedbackBuilder
from relay.protocols.webrtc.egress import Egress
from relay.protocols.webrtc.native_fanout import NativeSender
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.rtcp import ReceiverReport
from tests.protocols.webrtc import nat
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.nat import Nat
from tests.protocols.webrtc.test_peer_moves import until

BROWSERS = 1
"""Under this SSRC all Chromiums that only receive report."""


def is_check(data: bytes) -> bool:
    return data[:2] == b"\x00\x01"


def report() -> bytes:
    return ReceiverReport(BROWSERS, ()).serialise()


class Told:
    """Feedback about each packet that came since the last."""

    def __init__(self) -> None:
        self._builder = FeedbackBuilder(BROWSERS)
        self._number = 0

    def __call__(self) -> bytes:
        self._number += 1
        self._builder.arrived(self._number, 1000, self._number * 0.05)
        (told,) = self._builder.build()
        return told.serialise()


@asynccontextmanager
async def saying(client: Peer, words: Callable[[], bytes], every: float) -> AsyncIterator[None]:
    """The client says this again and again."""

    async def say() -> None:
        while True:
            client.send_rtcp(words())
            await asyncio.sleep(every)

    task = asyncio.create_task(say())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def playing(egress: Egress) -> AsyncIterator[None]:
    """A stream of tiny pictures, each a key frame."""

    async def play() -> None:
        for number in range(10_000):
            egress.frame("show", Codec.H264, [b"\x65picture"], number * 900, keyframe=True)
            await asyncio.sleep(0.01)

    task = asyncio.create_task(play())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(params=[False, True], ids=["python", "native"])
async def egress(request: pytest.FixtureRequest, peers: Peers) -> AsyncIterator[Egress]:
    native = NativeSender.over(peers.udp.fileno(), peers.udp.count) if request.param else None
    assert bool(native) is request.param
    made = Egress(peers, native)
    made.open("show", on_keyframe_wanted=lambda: None)
    yield made
    await made.close("show", "test over")


@asynccontextmanager
async def watching(
    peers: Peers, mine: Peers, egress: Egress
) -> AsyncIterator[tuple[Nat, Peer, Peer, list[bytes]]]:
    """A viewer that sees the stream and will send no check any more."""
    async with (
        playing(egress),
        nat.between(peers, mine, send=False, egress=egress) as (router, ours, theirs),
    ):
        seen: list[bytes] = []
        ours.on_rtp = lambda data, now: seen.append(data)
        await reach(ours, PeerState.CONNECTED)
        await until(lambda: len(seen) > 5)
        router.hold = is_check
        yield router, ours, theirs, seen


@pytest.mark.parametrize(
    ("words", "every"), [(Told, 0.05), (lambda: report, 0.4)], ids=["feedback", "reports only"]
)
async def test_its_picture_follows_what_it_reports(
    peers: Peers,
    mine: Peers,
    egress: Egress,
    words: Callable[[], Callable[[], bytes]],
    every: float,
) -> None:
    async with watching(peers, mine, egress) as (router, ours, theirs, seen):
        # Others report under the same SSRC, from where they have always been.
        async with contextlib.AsyncExitStack() as stack:
            others = [await stack.enter_async_context(sitting(peers, egress)) for _ in range(3)]
            for other in others:
                await stack.enter_async_context(saying(other, words(), every))
            await stack.enter_async_context(saying(ours, words(), every))
            # Each of them is known by what it has said so far.
            await until(lambda: all(peer.heard_rtcp for peer in peers._peers))
            outward = await router.rebind()
            # What comes before has left for the old address, and was still under way.
            await until(lambda: theirs.address == outward)
            seen.clear()
            await until(lambda: seen)
        assert theirs.ice.statistics.moves == 1
        assert {peer.ice.statistics.moves for peer in peers._peers} == {0, 1}


@asynccontextmanager
async def sitting(peers: Peers, egress: Egress) -> AsyncIterator[Peer]:
    """Another viewer, at home."""
    theirs = await Peers.open(peers.settings)
    try:
        async with nat.between(peers, theirs, send=False, egress=egress) as (_, ours, _peer):
            await reach(ours, PeerState.CONNECTED)
            yield ours
    finally:
        await theirs.close()


async def test_the_one_report_after_the_last_packet_is_enough(
    peers: Peers, mine: Peers, egress: Egress
) -> None:
    # Who gives feedback about packets says no more when none come; the last one that came
    # is told of from the new address, right after the one before it from the old.
    async with watching(peers, mine, egress) as (router, ours, theirs, seen):
        words = Told()
        ours.send_rtcp(words())
        await until(lambda: theirs.heard_rtcp)
        outward = await router.rebind()
        ours.send_rtcp(words())
        await until(lambda: theirs.address == outward)
        seen.clear()
        await until(lambda: seen)


async def test_a_report_recorded_and_sent_from_elsewhere_moves_nothing_and_gets_nothing(
    peers: Peers, mine: Peers, egress: Egress
) -> None:
    async with watching(peers, mine, egress) as (router, ours, theirs, seen):
        heard: list[bytes] = []

        def listen(data: bytes) -> bool:
            heard.append(data)
            return is_check(data)

        router.hold = listen
        for _ in range(5):
            ours.send_rtcp(report())
        await until(lambda: sum(191 < data[1] < 224 for data in heard) >= 5)
        before = theirs.address
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            strangers = peers.udp.statistics.strangers
            late = bytearray(heard[-1])
            late[-1] += 5  # an index that is to come
            replayed = [data for data in heard if 191 < data[1] < 224]
            for data in [*replayed, bytes(late), bytes(late[:11]), bytes(late[:30])]:
                sock.sendto(data, (peers.udp.host, peers.udp.port))
                await asyncio.sleep(0.06)  # so that each is looked at
            await until(lambda: peers.udp.statistics.strangers >= strangers + len(replayed) + 3)
            with pytest.raises(BlockingIOError):
                sock.recv(2048)
        assert theirs.address == before
        assert theirs.ice.selected is not None
        assert not theirs.ice.selected.lost
        seen.clear()
        await until(lambda: seen)


async def test_a_true_report_from_an_address_that_answers_nothing_moves_nothing(
    peers: Peers, mine: Peers, egress: Egress
) -> None:
    # Somebody on the way holds a report back and sends it from an address of his choice:
    # that address gets checks of ours within bounds, and the picture stays where it is.
    async with watching(peers, mine, egress) as (router, ours, theirs, seen):
        ours.send_rtcp(report())
        await until(lambda: theirs.heard_rtcp)
        stolen: list[bytes] = []

        def steal(data: bytes) -> bool:
            if 191 < data[1] < 224:
                stolen.append(data)
            return True

        router.hold = steal
        for _ in range(20):
            ours.send_rtcp(report())
        await until(lambda: len(stolen) == 20)
        before = theirs.address
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim:
            victim.bind(("127.0.0.1", 0))
            victim.setblocking(False)
            for data in stolen:
                victim.sendto(data, (peers.udp.host, peers.udp.port))
                await asyncio.sleep(0.03)
            got: list[bytes] = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    got.append(victim.recv(2048))
        assert got
        assert all(is_check(data) for data in got)
        assert sum(map(len, got)) <= sum(map(len, stolen)) + 7 * 120
        assert theirs.address == before
        seen.clear()
        await until(lambda: seen)
