"""Who is bought from, and what becomes of the answers that are none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from relay.config import Gateway
from relay.errors import PeerError, PeerRefused, Unavailable
from relay.gateway import catalogue, live
from relay.gateway import sellers as module
from relay.gateway.sellers import Sellers, words
from relay.gateway.status import StreamState
from relay.protocols.trickle.client import open_session
from relay.rpc.certificate import self_signed, server_context
from relay.rpc.price_info import PriceInfo
from tests.gateway.desk import gateway
from tests.gateway.seller import MODEL, Seller, answering, never
from tests.network import eventually

DEAD = "http://127.0.0.1:9"


@asynccontextmanager
async def knowing(*known: Seller | str) -> AsyncIterator[Sellers]:
    urls = [one if isinstance(one, str) else one.url for one in known]
    async with open_session() as http:
        yield Sellers(Gateway(orchestrators=urls), http)


async def urls(sellers: Sellers, refused: set[str] | None = None) -> list[str]:
    return [choice.offer.url for choice in await sellers.choices(MODEL, refused or set())]


async def start(sellers: Sellers, params: dict[str, Any] | None = None) -> module.Started:
    choice = (await sellers.choices(MODEL))[0]
    return await sellers.start(choice, params=params or {}, request_id="r", stream_id="s")


async def test_whoever_offers_the_model_can_be_bought_from() -> None:
    async with (
        Seller().running() as one,
        Seller(models=("else",)).running() as two,
        Seller().running() as three,
        knowing(one, two, DEAD, three) as sellers,
    ):
        assert await urls(sellers) == [one.url, three.url]
        await sellers.refresh()
        assert sellers.heard
        assert sellers.offers("else")
        assert not sellers.offers("nothing")
        found = {offer.model: offer.orchestrators for offer in sellers.models()}
        assert found == {MODEL: 2, "else": 1}


async def test_a_job_carries_what_it_was_started_with() -> None:
    async with Seller().running() as seller, knowing(seller) as sellers:
        params = {"a": 1}
        started = await start(sellers, params)
        assert started.params is params
        assert started.answer == seller.jobs[0].answer()
        assert seller.posts[0]["gateway_request_id"] == "r"
        assert seller.posts[0]["stream_id"] == "s"


async def test_a_price_for_no_pixels_is_no_offer() -> None:
    async with Seller().running() as odd, Seller().running() as good, knowing(odd, good) as sellers:
        odd.price, good.price = PriceInfo(1, 0), PriceInfo(5, 2)
        assert await urls(sellers) == [good.url]
        good.price = PriceInfo(1, -1)
        with pytest.raises(Unavailable) as caught:
            await sellers.choices(MODEL)
        assert caught.value.code == "no_orchestrator"


async def test_why_a_model_could_not_be_loaded_is_told() -> None:
    async with Seller(models=("else",)).running() as seller, knowing(seller) as sellers:
        seller.broken = "model 'm' could not be loaded: no such file"
        with pytest.raises(Unavailable) as caught:
            await sellers.choices("m")
        assert caught.value.code == "model_broken"
        assert words(caught.value) == seller.broken


async def test_the_cheaper_comes_first_and_who_failed_comes_last() -> None:
    async with Seller().running() as dear, Seller().running() as low, knowing(dear, low) as sellers:
        dear.price, low.price = PriceInfo(3, 1), PriceInfo(2, 1)
        assert await urls(sellers) == [low.url, dear.url]
        sellers.fail(low.url)
        assert await urls(sellers) == [dear.url, low.url]


@pytest.mark.parametrize("why", ["failed", "refused"])
async def test_a_quick_seller_that_will_not_do_hides_no_slower_one(why: str) -> None:
    async with (
        Seller().running() as quick,
        Seller().running() as slow,
        knowing(quick, slow) as sellers,
    ):
        slow.delay = 0.4
        assert await urls(sellers) == [quick.url]
        if why == "failed":
            sellers.fail(quick.url)
        refused = {quick.url} if why == "refused" else None
        assert set(await urls(sellers, refused)) == {quick.url, slow.url}


async def test_when_everyone_is_full_that_is_what_is_said() -> None:
    async with Seller().running() as one, Seller().running() as two, knowing(one, two) as sellers:
        one.full = two.full = True
        with pytest.raises(Unavailable) as caught:
            await sellers.choices(MODEL)
        assert caught.value.code == "orchestrator_capped"
        assert words(caught.value) == "no worker is free"


async def test_a_seller_without_a_token_cannot_be_used() -> None:
    async with Seller().running() as seller, knowing(seller) as sellers:
        seller.issued = None
        with pytest.raises(PeerError, match="no auth token"):
            await start(sellers)


async def test_a_seller_that_refuses_its_token_is_asked_anew() -> None:
    async with Seller().running() as seller, knowing(seller) as sellers:
        choice = (await sellers.choices(MODEL))[0]
        seller.token = seller.issued = b"of its next life"
        started = await sellers.start(choice, params={}, request_id="r", stream_id="s")
        assert started.answer.manifest_id == "job0"
        assert (seller.asked, len(seller.posts)) == (2, 2)


async def test_a_seller_that_refuses_every_token_is_not_asked_for_ever() -> None:
    async with Seller().running() as seller, knowing(seller) as sellers:
        seller.token = b"never given out"
        with pytest.raises(PeerRefused) as caught:
            await start(sellers)
        assert caught.value.code == "orchestrator_token"
        assert (seller.asked, len(seller.posts)) == (2, 2)


async def test_a_schema_that_does_not_come_holds_up_nobody_elses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalogue, "ASK_TIMEOUT", 0.4)
    names = tuple(f"model{n}" for n in range(20))
    async with (
        Seller(models=names).running() as stuck,
        Seller().running() as good,
        Seller(models=("bare",)).running() as stock,
        knowing(stuck, good, stock) as sellers,
    ):
        stuck.schema_delay = 5
        good.schema = {"type": "object"}
        await sellers.refresh()
        assert sellers.schema(None, MODEL) is not None
        assert sellers.schema(good.url, MODEL) == sellers.schema(None, MODEL)
        assert sellers.schema(stock.url, "bare") is None
        assert stuck.schema_asked == 1


async def test_a_seller_with_any_number_of_models_is_not_asked_for_all_their_schemas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalogue, "MAX_SCHEMAS", 8)
    names = tuple(f"model{n}" for n in range(100))
    async with Seller(models=names).running() as seller, knowing(seller) as sellers:
        await sellers.refresh()
        assert len(sellers.models()) == 100
        assert seller.schema_asked == 8


async def test_a_schema_is_fetched_again_when_its_version_may_be_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Seller().running() as seller, knowing(seller) as sellers:
        seller.runner_version = "1"

        async def fetched() -> bool:
            before = seller.schema_asked
            await sellers.refresh()
            return seller.schema_asked > before

        assert await fetched()
        assert await fetched(), "it was told none"
        seller.schema = {"type": "object", "title": "old"}
        assert await fetched()
        seller.schema = {"type": "object", "title": "new"}
        assert not await fetched()
        seller.runner_version = "2"
        assert await fetched()
        told = sellers.schema(None, MODEL)
        assert told is not None
        assert told.schema["title"] == "new"
        assert not await fetched()
        seller.runner_version = ""
        assert await fetched()
        assert await fetched(), "a version that is not told says nothing"
        seller.runner_version = "3"
        assert await fetched()
        monkeypatch.setattr(catalogue, "SCHEMA_AGE", 0.0)
        assert await fetched()


# --- what a live stream does with the answers ----------------------------------------------


@pytest.mark.parametrize(
    ("answer", "is_suspended"),
    [
        (answering(503, "insufficient capacity"), False),
        (answering(500, "OrchestratorCapped"), False),
        (answering(500, "live-video-to-video container returned 400: bad params"), False),
        (answering(500, "panic"), True),
        (answering(200, "<html>", "text/html"), True),
        (answering(200, "{}", "application/json"), True),
        (answering(200, "[", "application/json"), True),
        (never, True),
    ],
    ids=["503", "capped", "bad request", "500", "no JSON", "no channels", "half JSON", "silence"],
)
async def test_a_refusal_leads_to_the_next_seller(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
    is_suspended: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "START_TIMEOUT", 0.3)
    async with (
        Seller().running() as first,
        Seller().running() as second,
        gateway(first, second) as desk,
    ):
        first.refuse = answer
        async with desk.filming():
            await desk.live_at(second)
        assert len(first.posts) == 1
        until = desk.node.sellers._suspensions.suspended_until(first.url, time.monotonic())
        assert (until > 0) is is_suspended


async def test_when_every_worker_is_busy_people_are_told_until_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "PATIENCE", 0.2)
    async with Seller().running() as one, Seller().running() as two, gateway(one, two) as desk:
        one.refuse = answering(503, "insufficient capacity")
        two.full = True
        async with desk.filming():
            failed = await desk.reaches(StreamState.FAILED)
            assert failed.reason == "no worker is free; trying again"
            assert failed.reason_code == "orchestrator_capped"
            assert desk.history[-2:] == [
                (StreamState.STARTING, "orchestrator_capped"),
                (StreamState.FAILED, "orchestrator_capped"),
            ]
            one.refuse = None
            one.work = two.work = _later
            await desk.reaches(StreamState.STARTING, "")
            await desk.live_at(one)


async def _later(job: Any) -> None:
    count = 0
    async for unit in job.pictures():
        count += 1
        if count > 10:
            job.show(unit)


async def test_a_quick_seller_that_is_full_hides_no_slower_one_from_a_stream() -> None:
    async with (
        Seller().running() as quick,
        Seller().running() as slow,
        gateway(quick, slow) as desk,
    ):
        quick.refuse = answering(503, "insufficient capacity")
        slow.delay = 0.4
        async with desk.filming():
            await desk.live_at(slow)
        assert len(quick.posts) <= 3


async def test_nobody_to_buy_from_is_said_in_words() -> None:
    async with gateway(orchestrators=[DEAD]) as desk, desk.filming():
        told = await desk.reaches(StreamState.STARTING, "no_orchestrator")
        assert told.reason == "no orchestrator answers; trying again"
        assert told.reason_details.startswith(f"{DEAD}: ")
        assert told.reason_details.count(DEAD) == 1
        assert not desk.node.ready
        assert (desk.node.why_not_ready() or "").count(DEAD) == 1


async def test_a_certificate_that_no_authority_signed_is_named_while_a_stream_waits(
    tmp_path: Path,
) -> None:
    cert, key = self_signed("127.0.0.1", datetime.now(UTC))
    (tmp_path / "pair.pem").write_bytes(cert + key)
    context = server_context(tmp_path / "pair.pem", tmp_path / "pair.pem")
    seller = Seller()
    seller.tls = context
    async with (
        seller.running(),
        gateway(orchestrators=[seller.url], node_tls="ca") as desk,
        desk.filming(),
    ):
        told = await desk.reaches(StreamState.STARTING, "no_orchestrator")
        assert "no authority that we know" in told.reason_details
        assert told.reason_details.count(seller.url) == 1


async def test_the_catalogue_is_kept_while_nobody_answers_at_the_first_try() -> None:
    async with Seller().running() as seller, knowing(seller) as sellers:
        watching = asyncio.create_task(sellers.watch())
        await eventually(lambda: sellers.heard)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert sellers.offers(MODEL)
