"""Orchestrators are asked while a publisher still connects; what they say is old soon."""

from __future__ import annotations

import asyncio

import pytest

from relay.gateway import search as module
from relay.gateway import sellers
from relay.gateway.status import StreamState
from relay.protocols.webrtc.processes.far_publisher import PublisherSession
from tests.gateway.desk import NAME, Camera, Desk, gateway
from tests.gateway.seller import MODEL, Seller
from tests.network import eventually
from tests.protocols.webrtc import offers


async def only_ask(desk: Desk, name: str = NAME, model: str = MODEL) -> PublisherSession:
    """A publisher that is answered, and sends nothing."""
    return await desk.node.publish(name, offers.publisher(), model=model)


async def offered(desk: Desk) -> None:
    await eventually(lambda: desk.node.sellers.offers(MODEL))


def asked_for(seller: Seller) -> int:
    """How often it was asked for the model, besides what everybody is asked now and then."""
    return sum(question.capabilities is not None for question in seller.questions)


async def begins_late(desk: Desk, camera: Camera) -> None:
    """Its pictures come when the search that began with it is over."""
    camera.paused = True
    await eventually(lambda: not desk.node.sellers._searches)
    camera.paused = False


async def test_it_is_asked_before_the_publisher_has_connected() -> None:
    async with Seller().running() as seller, gateway(seller) as desk:
        await offered(desk)
        await only_ask(desk)
        await eventually(lambda: asked_for(seller) == 1)
        assert desk.stream.state is StreamState.CONNECTING
        assert seller.posts == [], "no job without a picture"


async def test_a_stream_that_begins_soon_asks_nobody_again() -> None:
    async with Seller().running() as seller, gateway(seller) as desk:
        await offered(desk)
        async with desk.filming():
            await desk.live_at(seller)
            assert asked_for(seller) == 1


async def test_what_was_found_long_ago_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEW_FOR", 0.0)
    async with Seller().running() as seller, gateway(seller) as desk:
        await offered(desk)
        async with desk.filming() as camera:
            await begins_late(desk, camera)
            await desk.live_at(seller)
            assert asked_for(seller) == 2


async def test_that_nobody_was_found_is_not_the_last_word() -> None:
    async with Seller().running() as seller, gateway(seller) as desk:
        await offered(desk)
        seller.full = True
        async with desk.filming() as camera:
            await begins_late(desk, camera)
            seller.full = False
            await desk.live_at(seller)
            assert {code for _, code in desk.history} == {""}


async def test_a_model_that_nobody_offers_is_not_asked_for_early() -> None:
    async with Seller().running() as seller, gateway(seller) as desk:
        await offered(desk)
        await only_ask(desk, model="made-up")
        await asyncio.sleep(0.1)
        assert asked_for(seller) == 0


async def test_publishers_that_only_ask_cause_so_many_rounds_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sellers, "SEARCHES", 2)
    async with (
        Seller(models=("a", "b", "c")).running() as seller,
        gateway(seller) as desk,
    ):
        await eventually(lambda: desk.node.sellers.offers("c"))
        seller.delay = 0.3
        for model in ("a", "b", "c"):
            await only_ask(desk, f"cam-{model}", model)
        await asyncio.sleep(0.1)
        assert asked_for(seller) == 2


async def test_a_search_ends_with_its_publisher() -> None:
    async with Seller().running() as seller, gateway(seller) as desk:
        await offered(desk)
        seller.delay = 5.0
        session = await only_ask(desk)
        assert desk.node.sellers._searches
        await session.close("gone")
        await eventually(lambda: not desk.node.sellers._searches)
