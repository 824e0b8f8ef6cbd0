"""The gateway's own bounds: how many, how long, and an end that everyone hears of."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from contextlib import AsyncExitStack

import pytest

from relay.config import Gateway, WebRtc
from relay.errors import ConfigError, Gone, NotFound, PeerRefused, Unavailable
from relay.gateway import sellers
from relay.gateway.node import GatewayNode
from relay.gateway.sellers import Sellers
from relay.gateway.sessions import ENDINGS_KEPT
from relay.gateway.status import StreamState
from relay.protocols.webrtc.client import WhepClient, WhipClient
from relay.protocols.webrtc.egress import EgressSession
from relay.protocols.webrtc.offering import Offering
from relay.rpc.price_info import PriceInfo
from tests.gateway.desk import NAME, Desk, gateway
from tests.gateway.seller import MODEL, Seller
from tests.live import LOOPBACK
from tests.network import eventually

FAR, LATE = 0.3, 1.5
"""Seconds: of a goodbye's way and its answer's; by which a busy machine may be late beside."""


async def publish(desk: Desk, name: str) -> WhipClient:
    return await WhipClient.connect(f"{desk.server.url}/whip/{name}", settings=LOOPBACK)


async def view(desk: Desk, name: str) -> WhepClient:
    url = f"{desk.server.url}/whep/{name}"
    return await WhepClient.connect(url, on_unit=lambda _: None, settings=LOOPBACK)


async def close(*clients: object) -> None:
    for client in clients:
        if isinstance(client, WhipClient | WhepClient):
            await client.close()


def refusals(came: list[object]) -> list[str]:
    return [str(one) for one in came if isinstance(one, PeerRefused)]


async def test_no_more_streams_than_there_may_be_even_at_once() -> None:
    async with gateway(max_streams=2) as desk:
        came = await asyncio.gather(
            *(publish(desk, f"cam{n}") for n in range(5)), return_exceptions=True
        )
        told = refusals([*came])
        assert len(told) == 3
        assert all("503" in one for one in told)
        assert len(desk.node.streams()) == 2
        # Viewers may still wait for one that is not there.
        waiting = await view(desk, "later")
        await close(*came, waiting)
        await eventually(lambda: desk.node.streams() == [])
        await close(await publish(desk, "cam9"))


async def test_no_more_viewers_than_there_may_be_even_at_once() -> None:
    async with gateway(max_viewers=2) as desk:
        came = await asyncio.gather(*(view(desk, "cam") for _ in range(5)), return_exceptions=True)
        assert len(refusals([*came])) == 3
        assert desk.stream.viewers == 2
        await close(*came)
        await eventually(lambda: desk.node.streams() == [])


async def test_a_viewer_of_nothing_is_let_go_in_time() -> None:
    async with gateway(viewer_wait=0.3) as desk, desk.watching() as viewer:
        assert viewer.client is not None
        await viewer.client.wait_closed()
        await eventually(lambda: desk.node.streams() == [])


async def test_a_viewer_waits_on_while_a_publisher_is_there() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller, viewer_wait=0.3) as desk,
        desk.filming(),
        desk.watching() as viewer,
    ):
        await desk.live_at(seller)
        began = time.monotonic()
        await viewer.sees(30, after=began)


async def test_a_session_that_is_over_is_not_found() -> None:
    async with gateway() as desk:
        whip = await publish(desk, NAME)
        session_id = next(iter(desk.node._sessions))
        assert desk.node.session(session_id).id == session_id
        await desk.node.end_session(session_id)
        for _ in range(2):
            with pytest.raises(NotFound) as caught:
                desk.node.session(session_id)
            assert caught.value.code == "session_not_found"
            with pytest.raises(NotFound):
                await desk.node.end_session(session_id)
        await whip.wait_closed()
        await whip.close()
        await eventually(lambda: desk.node.streams() == [])


async def test_a_viewer_that_ended_by_its_own_word_is_gone_and_remembered() -> None:
    async with gateway() as desk:
        async with desk.watching():
            [session_id] = desk.node._sessions
        for _ in range(2):  # its DELETE has come
            with pytest.raises(Gone, match="ended by the viewer") as caught:
                await desk.node.viewer(session_id)
            assert caught.value.code == "session_ended"
        with pytest.raises(NotFound, match="ended by the viewer"):
            desk.node.session(session_id)
        kept = desk.node._sessions._over
        for number in range(ENDINGS_KEPT):
            kept[str(number)] = "another"
        assert len(kept) == ENDINGS_KEPT
        with pytest.raises(NotFound, match="no such session"):
            await desk.node.viewer(session_id)


async def test_a_viewer_has_one_line_of_the_log_when_it_goes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with Seller().running() as seller, gateway(seller) as desk, desk.filming():
        await desk.live_at(seller)
        caplog.clear()
        async with desk.watching() as viewer:
            await viewer.sees(10)
            *_, (session, _) = desk.node._sessions._known.values()
            assert isinstance(session, EgressSession)
            [listed] = await desk.node.viewers(NAME, limit=2, after="")
        names = (f"viewer {listed.id}: ", f"peer {session.peer.id}")
        lines = [line for line in caplog.messages if line.startswith(names)]
        assert len(lines) == 1, lines
        assert re.search(r"-> GONE \(the client ended it, after \d+\.\d s\)$", lines[0])


async def test_a_session_that_its_peer_ended_is_not_found_and_let_go() -> None:
    async with gateway() as desk:
        whip = await publish(desk, NAME)
        session_id = next(iter(desk.node._sessions))
        whip.peer.end("gone")
        await eventually(lambda: desk.node._sessions._known[session_id][0].is_closed, every=0.01)
        with pytest.raises(NotFound):
            desk.node.session(session_id)
        await eventually(lambda: not desk.node._sessions)
        await whip.close()


async def test_draining_takes_nothing_new_tells_everyone_and_ends_with_the_last() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
        desk.filming() as camera,
    ):
        await desk.live_at(seller)
        assert desk.node.ready
        draining = asyncio.create_task(desk.node.drain(time.monotonic() + 20))
        await asyncio.sleep(0)
        assert not desk.node.ready
        with pytest.raises(PeerRefused, match="503"):
            await publish(desk, "another")
        with pytest.raises(PeerRefused, match="503"):
            await view(desk, NAME)
        assert desk.stream.state is StreamState.LIVE
        assert desk.stream.reason_code == "draining"
        await asyncio.sleep(0.6)
        assert not draining.done()
        await camera.whip.close()
        async with asyncio.timeout(5):
            await draining


async def test_draining_ends_at_its_deadline() -> None:
    async with gateway() as desk:
        whip = await publish(desk, NAME)
        async with asyncio.timeout(5):
            await desk.node.drain(time.monotonic() + 0.2)
        assert desk.path.has_publisher
        with pytest.raises(Unavailable):
            await desk.node.publish("other", "v=0")
        await whip.close()


async def test_stopping_is_bounded_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with Seller().running() as seller:
        seller.deaf = True
        async with gateway(seller, start_timeout=30) as desk:
            whips = [await publish(desk, f"cam{n}") for n in range(2)]
            async with desk.filming():
                await eventually(lambda: desk.stream.serving)
                stopping = asyncio.create_task(desk.node.stop())
                async with asyncio.timeout(6):
                    await stopping
            await close(*whips)
    await eventually(lambda: not names(asyncio.all_tasks() - before))


async def test_stopping_cuts_short_what_is_still_ending() -> None:
    before = asyncio.all_tasks()
    async with Seller().running() as seller:
        seller.deaf = True
        async with gateway(seller, start_timeout=30, viewer_wait=0.1) as desk:
            async with desk.filming():
                await eventually(lambda: desk.stream.serving)
            # The publisher is gone, and the sweep lets go of the name; its job still ends.
            await eventually(lambda: desk.node._ending, every=0.01)
            async with asyncio.timeout(6):
                await desk.node.stop()
    await eventually(lambda: not names(asyncio.all_tasks() - before))


async def test_who_is_told_goodbye_may_ask_why_from_far_away() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
        desk.filming(),
        desk.watching() as first,
        desk.watching() as second,
    ):
        assert first.client is not None
        assert second.client is not None
        stopping = asyncio.create_task(desk.node.stop(quiet=LATE))
        for each in (first.client, second.client):
            assert await each.wait_closed() == "closed by the peer"
        assert not (await asyncio.wait({stopping}, timeout=FAR))[0]
        for each in (first.client, second.client):
            assert await each.last_word() == "the gateway is going away"
        async with asyncio.timeout(6):
            await stopping


def names(tasks: set[asyncio.Task[object]]) -> list[str]:
    return [task.get_name() for task in tasks]


async def test_the_sweep_outlives_streams_that_are_stopped_while_another_one_ends() -> None:
    async with Seller().running() as seller, gateway(seller) as desk:
        seller.deaf = True
        async with desk.filming():
            await eventually(lambda: desk.stream.serving)
            others = [await view(desk, f"other{n}") for n in range(3)]
        await eventually(lambda: all(one.name != NAME for one in desk.node.streams()))
        for n in range(3):
            await desk.node.stop_stream(f"other{n}")
        await close(*others)
        await close(await view(desk, "again"))
        await eventually(lambda: desk.node.streams() == [])
        assert all(not task.done() for task in desk.node._tasks)


async def test_a_viewer_who_comes_as_the_stream_of_a_name_ends_gets_one_of_his_own() -> None:
    async with gateway() as desk:
        desk.node._forget_idle(desk.node._path(NAME))
        offering = Offering(desk.node.peers, send=False, audio=True)
        session = await desk.node.play(NAME, offering.text)
        await asyncio.sleep(0.05)
        assert not session.is_closed
        assert desk.stream.viewers == 1


async def test_what_is_offered_is_told_with_its_schema() -> None:
    async with Seller().running() as seller:
        seller.schema = {"type": "object"}
        async with gateway(seller) as desk:
            await eventually(lambda: desk.node.sellers.schema(None, MODEL))
            (offer,) = desk.node.models()
            assert (offer.model, offer.orchestrators, offer.version) == (MODEL, 1, "1")
            assert offer.schema == {"type": "object"}


async def test_a_port_in_use_is_said_and_leaves_nothing_behind() -> None:
    first = GatewayNode(Gateway(webrtc=WebRtc(port=0)))
    await first.start()
    second = GatewayNode(Gateway(webrtc=WebRtc(port=first.peers.udp.port)))
    try:
        with pytest.raises(ConfigError, match="in use"):
            await second.start()
        assert second.why_not_ready() == "this gateway is starting"
    finally:
        await second.stop()
        await first.stop()


async def test_a_gateway_that_nobody_sells_to_says_why() -> None:
    nobody = "https://127.0.0.1:1"
    node = GatewayNode(Gateway(orchestrators=[nobody], webrtc=WebRtc(port=0)))
    await node.start()
    try:

        def reason() -> str | None:
            why = node.why_not_ready() or ""
            return why if why.startswith(f"no orchestrator answers: {nobody}: ") else None

        await eventually(reason)
        assert not node.ready
    finally:
        await node.stop()
    assert node.why_not_ready() == "this gateway is going away"


async def test_a_gateway_that_is_sold_nothing_stays_ready_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its streams wait and try again; another gateway would be sold no more."""
    monkeypatch.setattr(sellers, "REFRESH", 0.1)
    async with Seller(models=()).running() as idle, gateway(idle) as desk:
        assert desk.node.ready
        assert desk.node.shortage() == f"no orchestrator offers a model: {idle.url}: it has none"
        idle.models = (MODEL,)
        await eventually(lambda: not desk.node.shortage())


async def test_so_does_one_whose_orchestrators_are_lost_or_too_dear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sellers, "REFRESH", 0.1)
    async with AsyncExitStack() as life:
        lost = await life.enter_async_context(Seller().running())
        async with gateway(lost) as desk:
            assert not desk.node.shortage()
            await life.aclose()
            await eventually(lambda: desk.node.shortage())
            assert desk.node.shortage().startswith(f"no orchestrator answers: {lost.url}: ")
            assert desk.node.ready
    dear = Seller()
    dear.price = PriceInfo(5, 1)
    async with dear.running(), gateway(dear, max_price="1") as desk:
        words = "every orchestrator asks for more than gateway.max_price: "
        assert desk.node.shortage() == f"{words}{dear.url} asks 5 wei a pixel"


async def test_a_gateway_without_orchestrators_says_so() -> None:
    node = GatewayNode(Gateway(orchestrators=[], webrtc=WebRtc(port=0)))
    await node.start()
    try:
        assert node.why_not_ready() == "no orchestrator is configured (gateway.orchestrators)"
    finally:
        await node.stop()


async def test_a_task_that_breaks_is_told_and_ends_readiness(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(self: Sellers) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Sellers, "refresh", broken)
    async with gateway() as desk:
        await eventually(lambda: "“sellers” broke" in (desk.node.why_not_ready() or ""))
        assert not desk.node.ready
    assert "the gateway's task “sellers” broke" in caplog.text
