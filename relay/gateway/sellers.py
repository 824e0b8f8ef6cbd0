"""The orchestrators we may buy from: what they offer, and a job at the best of them."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from relay.config import Gateway
from relay.errors import PeerError, PeerRefused, PeerTimeout, RelayError, Unavailable
from relay.gateway.finder import ASK_TIMEOUT, Answered, Finder
from relay.gateway.status import ModelOffer
from relay.market.offer import Offer
from relay.market.selector import Choice, Suspensions, rank
from relay.rpc.capabilities import LIVE_PIPELINE, ModelConstraint
from relay.rpc.certificate import client_context
from relay.rpc.live_job import LiveJobAnswer, LiveJobRequest, start_live_job
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.orchestrator_request import OrchestratorRequest
from relay.rpc.schema import RunnerSchema, fetch_schema

log = logging.getLogger(__name__)

START_TIMEOUT: Final = 5.0
REFRESH: Final = 10.0
MAX_SCHEMAS: Final = 64
"""Schemas asked of one seller in one round: it may name any number of models."""
MAX_ASKED_WHY: Final = 3
"""Sellers that are asked why they do not offer a model, when nobody does."""
CAPPED: Final = "orchestrator_capped"
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


@dataclass(slots=True)
class Catalogue:
    """What was last heard from everyone, by model."""

    offers: dict[str, list[Offer]] = field(default_factory=dict)
    schemas: dict[tuple[str, str], RunnerSchema] = field(default_factory=dict)


class Sellers:
    """Asks, ranks, and starts jobs; remembers who failed.

    Args:
        http: the gateway's client session.
    """

    def __init__(self, settings: Gateway, http: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._http = http
        verify = settings.verify_orchestrator_tls
        self.tls: ssl.SSLContext = client_context(verify=verify)
        self._finder = Finder(settings, client_context(verify=verify, alpn=("h2",)))
        self._suspensions = Suspensions()
        self._catalogue = Catalogue()
        self._infos: dict[str, OrchestratorInfo] = {}
        self.heard = False
        """Somebody answered at least once."""

    # --- what is offered ---------------------------------------------------------

    async def watch(self) -> None:
        """Refresh the catalogue for as long as the gateway lives."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH if self.heard else 0.5)

    async def refresh(self) -> None:
        answers, _ = await self._finder.find(OrchestratorRequest())
        offers: dict[str, list[Offer]] = {}
        for answer in answers:
            for model in _models(answer.node):
                offers.setdefault(model, []).append(_offer(answer, model))
        self._catalogue.offers = offers
        self.heard = self.heard or bool(answers)
        await self._refresh_schemas()

    def silence(self) -> str:
        """Why nobody sells, in words."""
        return self._finder.silence()

    async def _refresh_schemas(self) -> None:
        wanted = {
            (offer.transcoder, offer.model)
            for offers in self._catalogue.offers.values()
            for offer in offers
        }
        kept = {key: value for key, value in self._catalogue.schemas.items() if key in wanted}
        self._catalogue.schemas = kept
        models: dict[str, list[str]] = {}
        for transcoder, model in sorted(wanted):
            models.setdefault(transcoder, []).append(model)
        await asyncio.gather(*(self._load_schemas(*item) for item in models.items()))

    async def _load_schemas(self, transcoder: str, models: Sequence[str]) -> None:
        for model in models[:MAX_SCHEMAS]:
            if not await self.load_schema(transcoder, model):
                return

    async def load_schema(self, transcoder: str, model: str) -> bool:
        """Fetch the parameters' schema; False when the seller does not answer in time."""
        try:
            schema = await fetch_schema(
                self._http, transcoder, model, ssl=self.tls, timeout=ASK_TIMEOUT
            )
        except PeerError as error:
            log.debug("no schema of %s from %s: %s", model, transcoder, error)
            return not isinstance(error, PeerTimeout)
        if schema is not None:
            self._catalogue.schemas[transcoder, model] = schema
        return True

    def schema(self, transcoder: str | None, model: str) -> RunnerSchema | None:
        """The schema of ``model`` at ``transcoder``; with None, at anyone."""
        if transcoder is not None:
            return self._catalogue.schemas.get((transcoder, model))
        for (_, name), schema in self._catalogue.schemas.items():
            if name == model:
                return schema
        return None

    def offers(self, model: str) -> bool:
        """Somebody offered ``model`` when last asked."""
        return model in self._catalogue.offers

    def models(self) -> list[ModelOffer]:
        result = []
        for model, offers in sorted(self._catalogue.offers.items()):
            schema = self.schema(None, model)
            result.append(
                ModelOffer(
                    model=model,
                    pipeline=LIVE_PIPELINE,
                    orchestrators=len(offers),
                    version=schema.version if schema else (offers[0].version or None),
                    schema=schema.schema if schema else None,
                )
            )
        return result

    # --- buying ------------------------------------------------------------------

    def fail(self, url: str) -> None:
        """``url`` failed us: it comes last for a while."""
        self._suspensions.fail(url, time.monotonic())

    async def choices(self, model: str, refused: Collection[str] = ()) -> list[Choice]:
        """Everyone who offers ``model`` now, best first; never empty.

        Args:
            refused: whose quick answer is not enough to do without the slower ones,
                since they refused a moment ago. Nor is that of who failed us lately.

        Raises:
            Unavailable: nobody does. Code ``orchestrator_capped`` when some are only full,
                ``model_broken`` when it could not be loaded, else ``no_orchestrator``.
        """
        now = time.monotonic()

        def wanted(answer: Answered) -> bool:
            return (
                model in _models(answer.node)
                and answer.url not in refused
                and not self._suspensions.suspended_until(answer.url, now)
            )

        question = OrchestratorRequest.for_live(model)
        answers, failures = await self._finder.find(question, wanted)
        for answer in answers:
            self._infos[answer.url] = answer.node
        offers = [_offer(answer, model) for answer in answers if model in _models(answer.node)]
        if not offers:
            raise await self._broken(model, answers) or _nobody(model, failures)
        return rank(offers, self._suspensions, time.monotonic())

    async def _broken(self, model: str, answers: Sequence[Answered]) -> Unavailable | None:
        """What a seller says of a model that it has, and that could not be loaded."""
        for answer in answers[:MAX_ASKED_WHY]:
            try:
                await fetch_schema(
                    self._http, answer.node.transcoder, model, ssl=self.tls, timeout=ASK_TIMEOUT
                )
            except PeerError as error:
                if error.code == BROKEN:
                    return Unavailable(str(error), code=BROKEN)
        return None

    async def start(
        self, choice: Choice, *, params: dict[str, Any], request_id: str, stream_id: str
    ) -> Started:
        """Post the job; once more with a new token when its own is refused.

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
            answer = await self._post(url, choice.offer.transcoder, request)
        except PeerRefused as error:
            if error.code != TOKEN:
                raise
            # It was started again since it was asked.
            question = OrchestratorRequest.for_live(request.model_id)
            info = self._infos[url] = await self._finder.ask(url, question)
            answer = await self._post(url, info.transcoder, request)
        return Started(choice, params, answer, (time.monotonic() - began) * 1000)

    async def _post(self, url: str, transcoder: str, request: LiveJobRequest) -> LiveJobAnswer:
        token = self._infos[url].auth_token
        if token is None:
            raise PeerError(f"{url} gave no auth token")
        return await start_live_job(
            self._http,
            transcoder,
            request,
            auth_token=token,
            ssl=self.tls,
            timeout=START_TIMEOUT,
        )


def _models(info: OrchestratorInfo) -> Mapping[str, ModelConstraint]:
    return info.capabilities.models() if info.capabilities is not None else {}


def _offer(answer: Answered, model: str) -> Offer:
    constraint = _models(answer.node)[model]
    price = answer.node.price_info
    return Offer(
        url=answer.url,
        transcoder=answer.node.transcoder,
        model=model,
        version=constraint.runner_version,
        warm=constraint.warm,
        price_per_unit=price.price_per_unit if price else 0,
        pixels_per_unit=price.pixels_per_unit if price else 1,
        latency=answer.latency,
        rank=answer.rank,
    )


def _nobody(model: str, failures: Mapping[str, RelayError]) -> Unavailable:
    for url, error in failures.items():
        log.debug("%s cannot serve %s: %s", url, model, error)
    if any(error.code == CAPPED for error in failures.values()):
        return Unavailable("every orchestrator that answers is full", code=CAPPED)
    return Unavailable(f"no orchestrator offers “{model}” at the moment", code="no_orchestrator")


def words(error: RelayError) -> str:
    """What to tell people of a start that failed."""
    return {
        CAPPED: "every worker is busy",
        "peer_timeout": "the orchestrator did not answer in time",
    }.get(error.code, str(error))
