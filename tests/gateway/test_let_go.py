"""What has left is let go of at once: nothing waits for a collection of garbage.

A gateway freezes what start-up made, and from then on a full collection is rare. So the
collector is off here, and what is left of sessions that are over is counted.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urljoin

import aiohttp
import pytest

from relay.media.unit import AccessUnit
from relay.protocols.webrtc.client import WhepClient, WhipClient
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.roaming import FRESH
from relay.protocols.webrtc.rtcp import ReceiverReport, compound
from tests.gateway.desk import FRAME, Desk, gateway
from tests.gateway.seller import Seller
from tests.live import LOOPBACK, PURE
from tests.media.samples import picture, sound
from tests.network import eventually
from tests.protocols.webrtc import offers

ROOMS = ("relay.protocols.webrtc.", "relay.gateway.", "relay.media.", "aiortc.")
"""Not trickle: a request that is cancelled is a cycle of the HTTP client's own, without media."""


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> Counter[str]:
    """How many objects there are of each class that sessions are made of."""
    kinds = (type(thing) for thing in gc.get_objects())
    return Counter(
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in kinds
        if str(kind.__module__).startswith(ROOMS)
    )


def sessions() -> Counter[str]:
    """Likewise, of those of which there is a fixed number for each viewer."""
    kept = ("Peer", "IceSession", "EgressSession", "Viewer", "NativeTrack", "NativeSendLog")
    return Counter({name: n for name, n in alive().items() if name.endswith(kept)})


async def film(whip: WhipClient) -> None:
    for number in range(1_000_000):
        whip.send(picture(number * FRAME, key=number % 10 == 0))
        whip.send(sound(number * FRAME))
        await asyncio.sleep(1 / 30)


def stray(viewer: WhepClient) -> None:
    """A packet from nowhere: of which peer it may be is looked up."""
    assert viewer.peer.address is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"\x80\x60" + bytes(10), viewer.peer.address)


@asynccontextmanager
async def visit(desk: Desk) -> AsyncIterator[Counter[str]]:
    """A publisher and two viewers, who leave with the block; what the first of them got."""
    seen = Counter[str]()

    def take(unit: AccessUnit) -> None:
        seen["pictures" if unit.is_video else "sounds"] += 1

    whip = await WhipClient.connect(desk.whip, settings=LOOPBACK)
    filming = asyncio.create_task(film(whip))
    viewers = [
        await WhepClient.connect(desk.whep, on_unit=take, settings=LOOPBACK),
        await WhepClient.connect(desk.whep, on_unit=lambda _: None, settings=PURE),
    ]
    try:
        yield seen
    finally:
        filming.cancel()
        await asyncio.gather(filming, return_exceptions=True)
        for viewer in viewers:
            await viewer.close()
        await whip.close()
        await eventually(lambda: not desk.node.streams(), 10)


async def only_ask(url: str) -> None:
    """A viewer that is answered, sends nothing, and ends its session."""
    async with aiohttp.ClientSession() as http:
        headers = {"Content-Type": "application/sdp"}
        async with http.post(url, data=offers.viewer(), headers=headers) as answer:
            assert answer.status == 201
        async with http.delete(urljoin(url, answer.headers["Location"])) as ended:
            assert ended.status == 200


def closed_peers() -> list[str]:
    return [
        thing.id
        for thing in gc.get_objects()
        if isinstance(thing, Peer) and thing.state is PeerState.CLOSED
    ]


async def nothing_more_than(before: Counter[str]) -> None:
    """Reports keep a place for a second, connections to a seller end a little later."""

    def more() -> Counter[str]:
        return alive() - before

    try:
        await eventually(lambda: not more(), 6)
    except AssertionError:
        pytest.fail(f"left: {dict(more())}")


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("native", [False, True], ids=["pure", "native"])
async def test_of_streams_and_viewers_that_left_nothing_waits_for_a_collection(
    native: bool,
) -> None:
    webrtc = LOOPBACK if native else PURE
    async with Seller().running() as seller, gateway(seller, webrtc=webrtc) as desk:
        for turn in range(3):
            async with visit(desk) as seen:
                await eventually(lambda: seen["pictures"] > 5 and seen["sounds"] > 5, 10)
            seller.jobs.clear()
            if turn == 0:  # the first one fills caches
                await asyncio.sleep(1.5)
                gc.collect()
                before = alive()
        await nothing_more_than(before)


@pytest.mark.usefixtures("uncollected")
async def test_nor_of_viewers_that_left_a_stream_that_goes_on() -> None:
    async with Seller().running() as seller, gateway(seller) as desk, visit(desk) as seen:
        for turn in range(3):
            viewer = await WhepClient.connect(desk.whep, on_unit=lambda _: None, settings=PURE)
            if turn == 2:
                viewer.peer.send_rtcp(compound([ReceiverReport(1, ())]))
                await asyncio.sleep(1.1 * FRESH)
                stray(viewer)
                await asyncio.sleep(0.1)
            await viewer.close()
            del viewer
            await eventually(lambda: desk.stream.viewers == 2 and seen["pictures"] > 5)
            # Well before the timers of a closed session are due: none may be left to hold it.
            await eventually(lambda: not closed_peers(), 3)
            if turn == 0:
                before = sessions()
        try:
            await eventually(lambda: sessions() <= before, 6)
        except AssertionError:
            pytest.fail(f"left: {sessions() - before}")


@pytest.mark.usefixtures("uncollected")
async def test_nor_of_those_that_nobody_served_or_that_did_not_connect() -> None:
    async with gateway() as desk:
        for turn in range(3):
            async with visit(desk):
                await eventually(lambda: desk.stream.reason_code == "no_orchestrator", 6)
                await only_ask(f"{desk.server.url}/whep/cam")
            if turn == 0:
                gc.collect()
                before = alive()
        await nothing_more_than(before)
