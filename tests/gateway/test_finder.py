"""Where orchestrators come from, whom a round asks, and who is left alone for a while."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from relay.config import Gateway
from relay.errors import PeerError, Unavailable
from relay.gateway import finder as module
from relay.gateway.sellers import Sellers
from relay.market import discovery
from relay.protocols.trickle.client import open_session
from relay.rpc.capabilities import DEFAULT_CAPABILITIES, LIVE_VIDEO_TO_VIDEO, pack
from relay.rpc.price_info import PriceInfo
from tests.gateway.desk import gateway
from tests.gateway.seller import MODEL, Seller, answering
from tests.network import eventually
from tests.rpc.peers import http_peer

DEAD = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at here is who answers, not how quick a busy machine is."""
    monkeypatch.setattr(discovery, "GRACE", 1.0)


@asynccontextmanager
async def sellers_of(**settings: Any) -> AsyncIterator[Sellers]:
    async with open_session() as http:
        yield Sellers(Gateway(**settings), http)


async def urls(sellers: Sellers, refused: set[str] | None = None) -> list[str]:
    return [choice.offer.url for choice in await sellers.choices(MODEL, refused or set())]


async def fetch_lists(sellers: Sellers) -> None:
    finder = sellers._finder
    for one in finder._lists:
        await finder.poll(one)


class Listing:
    """A list's handler: what it says, and how often it was asked."""

    def __init__(self, entries: list[Any]) -> None:
        self.entries = entries
        self.status = 200
        self.asked = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response(self.entries, status=self.status)


# --- lists ---------------------------------------------------------------------------------


async def test_all_lists_are_one_each_address_once_the_operators_own_first() -> None:
    hook = Listing([{"address": "https://b"}, {"address": "https://c:8935", "score": 1}, {}])
    signer = Listing([{"address": "HTTPS://C"}, {"address": "http://d:1"}])
    routes = {"GET /hook": hook.answer, "GET /discover-orchestrators": signer.answer}
    async with (
        http_peer(routes) as url,
        sellers_of(
            orchestrators=["https://a", "https://b:8935/"],
            orchestrator_webhook=f"{url}/hook",
            remote_signer=url,
        ) as sellers,
    ):
        assert sellers._finder.urls == ["https://a", "https://b:8935/"]
        await fetch_lists(sellers)
        expected = ["https://a", "https://b:8935/", "https://c:8935", "http://d:1"]
        assert sellers._finder.urls == expected
        hook.status = 500
        signer.status = 503
        await fetch_lists(sellers)
        assert sellers._finder.urls == expected, "the last good ones are used on"


async def test_this_machine_is_not_asked_by_default_when_there_is_another_list() -> None:
    async with sellers_of() as sellers:
        assert sellers._finder.urls == ["https://127.0.0.1:8935"]
    async with sellers_of(remote_signer="http://127.0.0.1:9") as sellers:
        assert sellers._finder.urls == []
        assert sellers.silence() == "no list of orchestrators has named one yet"
        await fetch_lists(sellers)
        assert "gateway.remote_signer" in sellers.silence()


async def test_a_gateway_buys_from_those_that_its_webhook_lists() -> None:
    async with Seller().running() as seller:
        hook = Listing([{"address": seller.url, "score": 1}])
        hook.status = 503
        async with (
            http_peer({"GET /hook": hook.answer}) as url,
            gateway(orchestrators=[], orchestrator_webhook=f"{url}/hook") as desk,
        ):
            await eventually(lambda: hook.asked)
            assert not desk.node.ready
            hook.status = 200
            async with desk.filming():
                await desk.live_at(seller)
            assert desk.node.ready


async def test_a_list_that_does_not_come_holds_up_nobody() -> None:
    async def never(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async with (
        Seller().running() as seller,
        http_peer({"GET /hook": never}) as url,
        gateway(seller, orchestrator_webhook=f"{url}/hook") as desk,
        desk.filming(),
    ):
        await desk.live_at(seller)


# --- nodes that an orchestrator names --------------------------------------------------------


async def test_the_nodes_of_an_orchestrator_are_asked_so_many_and_one_level_deep() -> None:
    async with (
        Seller().running() as first,
        Seller().running() as second,
        Seller().running() as third,
        Seller().running() as deep,
    ):
        first.nodes = ("not an address", first.url, second.url, third.url, second.url)
        second.nodes = (deep.url,)
        async with sellers_of(orchestrators=[first.url]) as sellers:
            assert await urls(sellers) == [first.url]
        async with sellers_of(orchestrators=[first.url], extra_nodes=3) as sellers:
            assert await urls(sellers) == [first.url, second.url]
            choice = (await sellers.choices(MODEL))[1]
            started = await sellers.start(choice, params={}, request_id="r", stream_id="s")
            assert started.answer == second.jobs[0].answer()
        async with sellers_of(orchestrators=[first.url], extra_nodes=100) as sellers:
            assert set(await urls(sellers)) == {first.url, second.url, third.url}
        assert deep.asked == 0


async def test_nodes_are_remembered_while_who_named_them_is_full_or_away() -> None:
    async with Seller().running() as first, Seller().running() as second:
        first.nodes = (second.url,)
        async with sellers_of(orchestrators=[first.url], extra_nodes=3) as sellers:
            first.full = True
            with pytest.raises(Unavailable):
                await urls(sellers)
            first.full = False
            assert await urls(sellers) == [first.url, second.url]
            first.full = True
            assert await urls(sellers) == [second.url]
            first.full, first.nodes = False, ()
            assert await urls(sellers) == [first.url]
            first.full = True
            with pytest.raises(Unavailable):
                await urls(sellers)


async def test_a_job_moves_to_a_node_that_only_the_dead_orchestrator_named() -> None:
    async with Seller().running() as second, AsyncExitStack() as life:
        first = await life.enter_async_context(Seller().running())
        first.nodes = (second.url,)
        async with gateway(first, extra_nodes=3) as desk, desk.filming():
            await desk.live_at(first)
            await life.aclose()
            await desk.live_at(second)
            await desk.node.sellers.refresh()
            assert desk.node.sellers.offers(MODEL)


# --- what is asked for, and who fits -----------------------------------------------------------


async def test_a_round_asks_as_a_stock_gateway_does() -> None:
    settings = {"min_orchestrator_version": "0.9.0", "min_runner_version": {MODEL: "1.2.0"}}
    async with Seller().running() as seller:
        seller.runner_version = "1.2.3"
        async with sellers_of(orchestrators=[seller.url], **settings) as sellers:
            assert await urls(sellers) == [seller.url]
            await sellers.refresh()
            assert sellers.offers(MODEL)
        named, general = seller.questions
        bits = pack(DEFAULT_CAPABILITIES | {LIVE_VIDEO_TO_VIDEO})
        assert general.capabilities is None
        assert named.capabilities is not None
        assert named.capabilities.bitstring == bits
        assert set(named.capabilities.capacities.values()) == {1}
        assert named.capabilities.min_version == "0.9.0"
        assert named.capabilities.models()[MODEL].runner_version == "1.2.0"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"min_orchestrator_version": "99"}, "a node of 99 or newer"),
        ({"min_runner_version": {MODEL: "2.0.0"}}, f"“{MODEL}” in 2.0.0 or newer"),
    ],
)
async def test_who_is_too_old_is_not_bought_from(settings: dict[str, Any], words: str) -> None:
    async with Seller().running() as seller:
        seller.runner_version = "1.9.9"
        async with sellers_of(orchestrators=[seller.url], **settings) as sellers:
            with pytest.raises(Unavailable) as caught:
                await urls(sellers)
            assert caught.value.code == "no_orchestrator"
            assert words in str(caught.value)
            await sellers.refresh()
            assert not sellers.offers(MODEL)


# --- the silent ---------------------------------------------------------------------------------


async def test_who_was_silent_is_not_asked_at_each_start() -> None:
    asked = 0

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    bad = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with Seller().running() as good, sellers_of(orchestrators=[bad, good.url]) as sellers:
        await sellers.refresh()
        assert asked == 1
        for _ in range(5):
            assert await urls(sellers) == [good.url]
        assert (asked, good.asked) == (1, 6)
        # When the good one will not do, it is better to ask the silent than nobody.
        assert await urls(sellers, {good.url}) == [good.url]
        assert asked == 2
    server.close()
    await server.wait_closed()


async def test_of_a_long_list_a_start_asks_only_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", 2)
    async with AsyncExitStack() as stack:
        all_of_them = [await stack.enter_async_context(Seller().running()) for _ in range(6)]
        for number, seller in enumerate(all_of_them):
            seller.price = PriceInfo(10 - number, 1)
        listed = [seller.url for seller in all_of_them]
        sellers = await stack.enter_async_context(sellers_of(orchestrators=listed))
        await sellers.refresh()
        assert await urls(sellers) == [all_of_them[5].url, all_of_them[4].url]
        assert [seller.asked for seller in all_of_them] == [1, 1, 1, 1, 2, 2]
        # When these refuse or do not answer, the others are asked.
        all_of_them[5].full = True
        all_of_them[4].delay = 5
        assert set(await urls(sellers)) == set(listed[:4])


async def test_when_all_were_silent_all_are_asked_again() -> None:
    async with Seller().running() as seller:
        port = int(seller.url.rpartition(":")[2])
    async with sellers_of(orchestrators=[DEAD, f"http://127.0.0.1:{port}"]) as sellers:
        await sellers.refresh()
        assert not sellers.heard
        assert "no orchestrator answers" in sellers.silence()
        async with Seller().running(port) as again:
            assert await urls(sellers) == [again.url]


async def test_only_so_many_lines_are_logged_of_a_round(caplog: pytest.LogCaptureFixture) -> None:
    dead = [f"http://127.0.0.{n}:9" for n in range(1, 101)]
    async with sellers_of(orchestrators=dead) as sellers:
        finder = sellers._finder
        with caplog.at_level(logging.WARNING, "relay.gateway.finder"):
            await finder.find(finder.request())
            assert len(caplog.records) == 21
            assert caplog.records[-1].getMessage() == "and 80 more orchestrators cannot be had"
            await finder.find(finder.request())
            assert len(caplog.records) == 21, "each change is told once"


# --- prices and room ------------------------------------------------------------------------------


async def test_nobody_dearer_than_the_operator_pays_is_bought_from() -> None:
    async with Seller().running() as dear, Seller().running() as fair:
        dear.price, fair.price = PriceInfo(1, 2), PriceInfo(499_999_999, 1_000_000_000)
        listed = [dear.url, fair.url]
        async with sellers_of(orchestrators=listed, max_price="0.499999999") as sellers:
            assert await urls(sellers) == [fair.url]
            fair.price = PriceInfo(500_000_000, 1_000_000_000)
            with pytest.raises(Unavailable) as caught:
                await urls(sellers)
            assert caught.value.code == "price_too_high"
            assert "0.499999999" in str(caught.value)
            assert f"{dear.url} asks 0.5 " in caught.value.details
            assert f"{fair.url} asks 0.5 " in caught.value.details
            assert dear.url not in str(caught.value), "viewers read this"
        async with sellers_of(orchestrators=listed, max_price="1/2") as sellers:
            assert set(await urls(sellers)) == set(listed)


async def test_a_price_that_leaps_at_a_refresh_is_told_and_comes_last(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Seller().running() as greedy, Seller().running() as fair:
        greedy.price, fair.price = PriceInfo(10, 3), PriceInfo(100, 3)
        async with sellers_of(orchestrators=[greedy.url, fair.url]) as sellers:
            await sellers.refresh()
            assert (await urls(sellers))[0] == greedy.url
            greedy.price = PriceInfo(20, 3)
            await sellers.refresh()
            assert (await urls(sellers))[0] == greedy.url, "twice as much is followed"
            greedy.price = PriceInfo(21, 3)
            await sellers.refresh()
            choices = await sellers.choices(MODEL)
            assert [choice.offer.url for choice in choices] == [fair.url, greedy.url]
            assert (
                choices[1].why
                == "its price more than doubled; taken because nothing better is left"
            )
            leaps = [r for r in caplog.records if "more than twice" in r.getMessage()]
            assert {r.args[0] for r in leaps if isinstance(r.args, tuple)} == {greedy.url}


async def test_a_running_session_does_not_follow_a_price_that_leaps() -> None:
    async with (
        Seller().running() as greedy,
        Seller().running() as fair,
        gateway(greedy, fair) as desk,
    ):
        greedy.price, fair.price = PriceInfo(1, 1), PriceInfo(2, 1)
        async with desk.filming():
            await desk.live_at(greedy)
            await desk.node.sellers.refresh()
            greedy.price = PriceInfo(3, 1)
            await desk.node.sellers.refresh()
            serving = (await desk.live_at(greedy)).serving
            assert serving is not None
            assert (serving.price_per_unit, serving.pixels_per_unit) == (1, 1)
            await greedy.jobs[0].close()
            await desk.live_at(fair)


async def test_one_that_is_asked_anew_does_not_get_more_than_twice_its_price() -> None:
    async with Seller().running() as seller, sellers_of(orchestrators=[seller.url]) as sellers:
        seller.price = PriceInfo(1, 3)
        (choice,) = await sellers.choices(MODEL)
        seller.token = seller.issued = b"of its next life"
        seller.price = PriceInfo(2, 3)
        assert await sellers.start(choice, params={}, request_id="r", stream_id="s")
        seller.token = seller.issued = b"and of the one after that"
        seller.price = PriceInfo(3, 3)
        with pytest.raises(PeerError) as caught:
            await sellers.start(choice, params={}, request_id="r", stream_id="s")
        assert caught.value.code == "price_leapt"
        assert len(seller.jobs) == 1


async def test_a_price_listed_for_the_model_counts_over_the_one_for_all() -> None:
    async with Seller().running() as seller, sellers_of(orchestrators=[seller.url]) as sellers:
        seller.price = PriceInfo(1, 1)
        seller.listed = (
            PriceInfo(9, 1, 27, MODEL),
            PriceInfo(8, 0, 35, MODEL),
            PriceInfo(7, 2, 35, MODEL),
        )
        await sellers.refresh()
        (offer,) = sellers._catalogue.offers[MODEL]
        assert (offer.price_per_unit, offer.pixels_per_unit) == (7, 2)


async def test_a_price_below_nothing_is_none() -> None:
    async with Seller().running() as seller, sellers_of(orchestrators=[seller.url]) as sellers:
        seller.price = PriceInfo(-5, 1)
        with pytest.raises(Unavailable):
            await urls(sellers)


async def test_one_that_has_no_room_though_it_said_so_comes_last_for_a_while() -> None:
    async with (
        Seller().running() as liar,
        Seller().running() as other,
        gateway(liar, other) as desk,
    ):
        liar.refuse = answering(503, "insufficient capacity")
        async with desk.filming():
            await desk.live_at(other)
        now = time.monotonic()
        assert desk.node.sellers._full.suspended_until(liar.url, now) > now
        choices = await desk.node.sellers.choices(MODEL)
        assert [choice.offer.url for choice in choices] == [other.url, liar.url]
        assert choices[1].why == "was full a moment ago; taken because nothing better is left"
