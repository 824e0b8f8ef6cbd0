"""The orchestrators we may buy from: what they offer, and a job at the best of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import aiohttp

from relay.config import Gateway
from relay.errors import PeerError, PeerRefused, RelayError, Unavailable
from relay.gateway.catalogue import Catalogue
from relay.gateway.census import Census
from relay.gateway.finder import ALIVE, ASK_TIMEOUT, CAPPED, Answered, Finder
from relay.gateway.finder import Found as Round
from relay.gateway.journal import Found, Tell, discovered, silent
from relay.gateway.offers import models_of, offer_of, price_of, prices_of
from relay.gateway.reasons import asked, named, why_not
from relay.gateway.search import Search
from relay.gateway.status import ModelOffer
from relay.market.offer import Offer
from relay.market.price import Prices, leaps, parse_price
from relay.market.selector import Choice, Suspensions, rank
from relay.market.shared import Shared
from relay.market.sources import MAX_LISTED
from relay.rpc.compatibility import fits
from relay.rpc.live_job import LiveJobAnswer, LiveJobRequest, start_live_job
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.schema import RunnerSchema, fetch_schema
from relay.rpc.trust import UNTRUSTED, JobTrust, Trust

log = logging.getLogger(__name__)

START_TIMEOUT: Final = 5.0
REFRESH: Final = 10.0
MAX_ASKED_WHY: Final = 3
"""Sellers that are asked why they do not offer a model, when nobody does."""
MAX_PRICED: Final = 64
"""Models of one seller whose listed prices are watched: it may name any number of them."""
FULL_FOR: Final = 2.0
"""Seconds that one which took no job though it had offered comes last at first."""
SEARCHES: Final = 8
"""Rounds of questions at once for publishers that have not shown a picture yet."""
BROKEN: Final = "model_broken"
BAD_REQUEST: Final = "orchestrator_bad_request"
TOKEN: Final = "orchestrator_token"
BLAMELESS: Final = frozenset({CAPPED, BAD_REQUEST})
"""Refusals that say nothing against the orchestrator: it is full, or the job is wrong."""


@dataclass(frozen=True, slots=True)
class Started:
    """A job that an orchestrator accepted, with the parameters that it was given."""

    choice: Choice
    params: dict[str, Any]
    answer: LiveJobAnswer
    connect_ms: float
    trust: JobTrust
    """What the job's channels are held to."""


class Sellers:
    """Asks, ranks, and starts jobs; remembers who failed.

    Args:
        http: the gateway's client session.
        tell: hears who answered, each time that all were asked.
    """

    def __init__(self, settings: Gateway, http: aiohttp.ClientSession, tell: Tell = silent) -> None:
        self._settings = settings
        self._tell = tell
        self._http = http
        self._trust = Trust(settings.node_tls, settings.reach, ca=settings.node_ca)
        self._finder = Finder(settings, http, self._trust)
        self._suspensions = Suspensions()
        self._full = Suspensions(first=FULL_FOR, one_at_a_time=True)
        self._prices = Prices()
        self._rounds = Shared[list[Choice]]()
        self._max_price = parse_price(settings.max_price) if settings.max_price else None
        self._catalogue = Catalogue(http, self._trust)
        self._census = Census()
        self._infos: dict[str, OrchestratorInfo] = {}
        self._searches: set[Search] = set()
        self.heard = False
        """Somebody answered at least once."""
        self._idle: list[str] = []
        """Who answered when last asked, and sells nothing."""

    # --- what is offered ---------------------------------------------------------

    async def watch(self) -> None:
        """Refresh the catalogue for as long as the gateway lives."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._finder.follow())
            group.create_task(self._keep_fresh())

    async def _keep_fresh(self) -> None:
        while True:
            self._finder.changed.clear()
            await self.refresh()
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH if self.heard else 0.5):
                    await self._finder.changed.wait()

    async def refresh(self) -> None:
        """Ask everyone what there is; the first answers ever count as they come."""
        offers: dict[str, list[Offer]] = {}
        idle: list[str] = []
        if not self.heard:
            self._catalogue.offers, self._idle = offers, idle

        found: list[Found] = []
        self._census.begin(time.monotonic())

        def heard(answer: Answered) -> None:
            self.heard = True
            url = answer.node.transcoder
            found.append(Found(answer.node.address, url, answer.latency * 1000))
            self._census.heard(answer.node)
            prices = prices_of(answer.node)
            told = [model for model in models_of(answer.node) if self._serves(answer.node, model)]
            if not told:
                idle.append(answer.url)
            for index, model in enumerate(told):
                offer = offer_of(answer, model, prices)
                offers.setdefault(model, []).append(offer)
                if index < MAX_PRICED:
                    self._note_price(offer, "listed")

        await self._finder.find(self._finder.request(), heard=heard)
        for listed in offers.values():
            listed.sort(key=lambda offer: offer.rank)
        self._catalogue.offers, self._idle = offers, idle
        self._tell(discovered(found))
        self._census.end(time.monotonic(), self._tell)
        await self._catalogue.refresh_schemas()

    def _note_price(self, offer: Offer, told: str) -> None:
        """Who asks for more than twice what it asked before is logged, and not followed."""
        key = (offer.url, offer.model, told)
        if self._prices.note(key, offer.price, time.monotonic()):
            log.warning(
                "%s now asks %s wei a pixel for %s, more than twice as much as before",
                offer.url,
                offer.price,
                offer.model,
            )

    def silence(self) -> str:
        """Why nobody sells, in words."""
        return self._finder.silence()

    def shortage(self) -> str:
        """Why no stream could be served, as was last heard, in words; empty when one could."""
        offers = [offer for listed in self._catalogue.offers.values() for offer in listed]
        if any(self._affords(offer) for offer in offers):
            return ""
        if offers:
            return f"every orchestrator asks for more than gateway.max_price: {asked(offers)}"
        if self._idle:
            idle = named(dict.fromkeys(self._idle, "it has none"))
            return f"no orchestrator offers a model: {idle}"
        return self._finder.silence()

    async def load_schema(self, transcoder: str, model: str, trust: JobTrust) -> bool:
        """Fetch the parameters' schema; False when the seller does not answer in time."""
        return await self._catalogue.load_schema(transcoder, model, trust.guard)

    def schema(self, transcoder: str | None, model: str) -> RunnerSchema | None:
        """The schema of ``model`` at ``transcoder``; with None, at anyone."""
        return self._catalogue.schema(transcoder, model)

    def offers(self, model: str) -> bool:
        """Somebody offered ``model`` when last asked."""
        return model in self._catalogue.offers

    def models(self) -> list[ModelOffer]:
        return self._catalogue.models()

    # --- buying ------------------------------------------------------------------

    def fail(self, url: str) -> None:
        """``url`` failed us: it comes last for a while."""
        self._suspensions.fail(url, time.monotonic())

    async def choices(
        self, model: str, refused: Collection[str] = (), *, only: str = ""
    ) -> list[Choice]:
        """Everyone who offers ``model`` now, best first; never empty.

        Streams that ask at the same time, as when all of one orchestrator move, share a
        round of questions.

        Args:
            refused: whose quick answer is not enough to do without the slower ones,
                since they refused a moment ago. Nor is that of who failed us lately, was
                full, or has leapt in price.
            only: what the address of each must have in it; empty lets all.

        Raises:
            Unavailable: nobody does. Code ``orchestrator_capped`` when some are only full,
                ``model_broken`` when it could not be loaded, ``price_too_high`` when all
                ask for more than the operator pays, else ``no_orchestrator``.
        """
        key = (model, frozenset(refused), only)
        return await self._rounds.run(key, lambda: self._choices(model, refused, only))

    def search(self, model: str, *, only: str = "") -> Search | None:
        """Ask already now, for a stream that is about to begin.

        Returns:
            None when nobody has offered ``model``, or enough searches are under way.
        """
        if not self.offers(model) or len(self._searches) >= SEARCHES:
            return None
        return Search(self.choices(model, only=only), self._searches)

    async def _choices(self, model: str, refused: Collection[str], only: str) -> list[Choice]:
        now = time.monotonic()

        def serves(answer: Answered) -> bool:
            here = only in answer.url or only in answer.node.transcoder
            return here and self._serves(answer.node, model)

        def untried(answer: Answered) -> bool:
            affordable = serves(answer) and self._affords(offer_of(answer, model))
            return affordable and answer.url not in refused

        def wanted(answer: Answered) -> bool:
            return (
                untried(answer)
                and not self._suspensions.suspended_until(answer.url, now)
                and not self._burden(answer.url, model, now)
            )

        found = await self._finder.find(
            self._finder.request(model),
            wanted,
            enough=untried,
            best=() if only else self._best(model, now),
        )
        offers = [offer_of(answer, model) for answer in found.answers if serves(answer)]
        if not offers:
            # Not by way of a name: an error holds this frame, and with it who asked.
            raise await self._broken(model, found.answers) or _nobody(
                f"“{model}”{self._conditions(model)}", found
            )
        for answer in found.answers:
            self._remember(answer.url, answer.node)
        for offer in offers:
            self._note_price(offer, "offered")
        affordable = [offer for offer in offers if self._affords(offer)]
        if not affordable:
            raise Unavailable(
                f"every orchestrator asks for more than gateway.max_price "
                f"({self._settings.max_price} wei a pixel) for “{model}”",
                code="price_too_high",
                details=asked(offers),
            )
        return self._rank(affordable, time.monotonic())

    def _best(self, model: str, now: float) -> list[str]:
        """Who offered ``model`` when last heard, best first."""
        offers = [offer for offer in self._catalogue.offers.get(model, ()) if self._affords(offer)]
        return [choice.offer.url for choice in self._rank(offers, now)]

    def _rank(self, offers: Sequence[Offer], now: float) -> list[Choice]:
        burdens = {offer.url: self._burden(offer.url, offer.model, now) for offer in offers}
        told = {url: words for url, words in burdens.items() if words}
        return rank(offers, self._suspensions, now, told)

    def _serves(self, info: OrchestratorInfo, model: str) -> bool:
        constraint = models_of(info).get(model)
        return constraint is not None and fits(self._finder.minimum(model), constraint)

    def _conditions(self, model: str) -> str:
        """What the operator asks of an orchestrator besides the model, in words."""
        runner = self._finder.minimum(model).runner_version
        node = self._settings.min_orchestrator_version
        asked = [f"{runner} or newer (gateway.min_runner_version)"] if runner else []
        asked += [f"a node of {node} or newer (gateway.min_orchestrator_version)"] if node else []
        return f" in {', '.join(asked)}" if asked else ""

    def _affords(self, offer: Offer) -> bool:
        return self._max_price is None or offer.price <= self._max_price

    def _burden(self, url: str, model: str, now: float) -> str:
        """What speaks against buying at ``url`` for now, in words; empty when nothing does."""
        if self._full.suspended_until(url, now):
            return "was full a moment ago"
        if any(self._prices.leapt((url, model, told)) for told in ("listed", "offered")):
            return "its price more than doubled"
        return ""

    def _remember(self, url: str, info: OrchestratorInfo) -> None:
        """Keep what a job needs of an answer: the newest of each of so many."""
        self._infos.pop(url, None)
        if len(self._infos) >= MAX_LISTED:
            del self._infos[next(iter(self._infos))]
        self._infos[url] = replace(info, capabilities=None, hardware=(), capabilities_prices=())

    async def _broken(self, model: str, answers: Sequence[Answered]) -> Unavailable | None:
        """What a seller says of a model that it has, and that could not be loaded."""
        for answer in answers[:MAX_ASKED_WHY]:
            try:
                url = answer.node.transcoder
                guard = self._trust.meeting(url, by=answer.url)
                await fetch_schema(self._http, url, model, ssl=guard.ssl, timeout=ASK_TIMEOUT)
            except PeerError as error:
                if error.code == BROKEN:
                    return Unavailable(str(error), code=BROKEN)
        return None

    async def start(
        self, choice: Choice, *, params: dict[str, Any], request_id: str, stream_id: str
    ) -> Started:
        """Post the job; once more when it was started again since it was asked.

        Raises:
            PeerRefused, PeerTimeout, PeerError: it is not to be had here.
        """
        url = choice.offer.url
        request = LiveJobRequest(
            model_id=choice.offer.model,
            params=params,
            gateway_request_id=request_id,
            stream_id=stream_id,
        )
        began = time.monotonic()
        try:
            answer, trust = await self._post_anew(choice.offer, request)
        except PeerRefused as error:
            if error.code == CAPPED:
                # It said that it had room.
                self._full.fail(url, time.monotonic())
            raise
        self._full.succeed(url)
        return Started(choice, params, answer, (time.monotonic() - began) * 1000, trust)

    async def _post_anew(
        self, offer: Offer, request: LiveJobRequest
    ) -> tuple[LiveJobAnswer, JobTrust]:
        try:
            return await self._post(offer.url, offer.transcoder, request)
        except PeerError as error:
            if error.code not in (TOKEN, UNTRUSTED):
                raise
        # It was started again since it was asked.
        info = await self._finder.ask(offer.url, self._finder.request(offer.model), by=offer.url)
        if leaps(offer.price, price_of(info)):
            raise PeerError(f"{offer.url} has more than doubled its price", code="price_leapt")
        self._remember(offer.url, info)
        return await self._post(offer.url, info.transcoder, request)

    async def _post(
        self, url: str, transcoder: str, request: LiveJobRequest
    ) -> tuple[LiveJobAnswer, JobTrust]:
        token = self._infos[url].auth_token
        if token is None:
            raise PeerError(f"{url} gave no auth token")
        trust = self._trust.job(self._trust.reach_by(url))
        answer = await start_live_job(
            self._http,
            transcoder,
            request,
            auth_token=token,
            ssl=trust.guard(transcoder).ssl,
            timeout=START_TIMEOUT,
        )
        for channel in answer.urls:
            trust.guard(channel)
        return answer, trust


def _nobody(what: str, found: Round) -> Unavailable:
    for url, error in found.failures.items():
        log.debug("%s cannot serve %s: %s", url, what, error)
    if any(error.code == CAPPED for error in found.failures.values()):
        return Unavailable("every orchestrator that answers is full", code=CAPPED)
    told = {url: why_not(url, error) for url, error in found.failures.items()}
    words = f"no orchestrator offers {what} at the moment"
    there = any(error.code in ALIVE for error in found.failures.values())
    if told and not (found.answers or there):
        words = "no orchestrator answers"
    return Unavailable(words, code="no_orchestrator", details=named(told))


def words(error: RelayError) -> str:
    """What to tell people of a start that failed."""
    return {
        CAPPED: "no worker is free",
        "peer_timeout": "the orchestrator did not answer in time",
    }.get(error.code, str(error))
