"""The orchestrators we may buy from: what they offer, and a job at the best of them."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from relay.config import Gateway
from relay.errors import PeerError, RelayError, Unavailable
from relay.gateway.status import ModelOffer
from relay.market.discovery import Answer, Discovery
from relay.market.offer import Offer
from relay.market.selector import Choice, Suspensions, rank
from relay.rpc.capabilities import LIVE_PIPELINE, ModelConstraint
from relay.rpc.certificate import client_context
from relay.rpc.client import get_orchestrator
from relay.rpc.live_job import LiveJobAnswer, LiveJobRequest, start_live_job
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.orchestrator_request import OrchestratorRequest
from relay.rpc.schema import RunnerSchema, fetch_schema

log = logging.getLogger(__name__)

ASK_TIMEOUT: Final = 2.0
START_TIMEOUT: Final = 5.0
REFRESH: Final = 10.0
CAPPED: Final = "orchestrator_capped"


@dataclass(frozen=True, slots=True)
class Started:
    """A job that an orchestrator accepted."""

    choice: Choice
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
        self._grpc_tls = client_context(verify=verify, alpn=("h2",))
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
        answers = await self._discovery(OrchestratorRequest()).find()
        offers: dict[str, list[Offer]] = {}
        for answer in answers:
            for model in _models(answer.node):
                offers.setdefault(model, []).append(_offer(answer, model))
        self._catalogue.offers = offers
        self.heard = self.heard or bool(answers)
        await self._refresh_schemas()

    async def _refresh_schemas(self) -> None:
        wanted = {
            (offer.transcoder, offer.model)
            for offers in self._catalogue.offers.values()
            for offer in offers
        }
        kept = {key: value for key, value in self._catalogue.schemas.items() if key in wanted}
        self._catalogue.schemas = kept
        for transcoder, model in sorted(wanted):
            await self.load_schema(transcoder, model)

    async def load_schema(self, transcoder: str, model: str) -> RunnerSchema | None:
        """Fetch the parameters' schema; None where the seller has none to tell."""
        try:
            schema = await fetch_schema(
                self._http, transcoder, model, ssl=self.tls, timeout=ASK_TIMEOUT
            )
        except PeerError as error:
            log.debug("no schema of %s from %s: %s", model, transcoder, error)
            return self._catalogue.schemas.get((transcoder, model))
        if schema is not None:
            self._catalogue.schemas[transcoder, model] = schema
        return schema

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

    async def choices(self, model: str) -> list[Choice]:
        """Everyone who offers ``model`` now, best first; never empty.

        Raises:
            Unavailable: nobody does. Code ``orchestrator_capped`` when some are only full,
                else ``no_orchestrator``.
        """
        discovery = self._discovery(OrchestratorRequest.for_live(model))
        answers = await discovery.find(lambda info: model in _models(info))
        for answer in answers:
            self._infos[answer.url] = answer.node
        offers = [_offer(answer, model) for answer in answers if model in _models(answer.node)]
        if not offers:
            raise _nobody(model, discovery.failures)
        return rank(offers, self._suspensions, time.monotonic())

    async def start(
        self, choice: Choice, *, params: dict[str, Any], request_id: str, stream_id: str
    ) -> Started:
        """Post the job.

        Raises:
            PeerRefused, PeerTimeout, PeerError: it is not to be had here.
        """
        info = self._infos[choice.offer.url]
        request = LiveJobRequest(
            model_id=choice.offer.model,
            params=params,
            gateway_request_id=request_id,
            stream_id=stream_id,
        )
        if info.auth_token is None:
            raise PeerError(f"{choice.offer.url} gave no auth token")
        began = time.monotonic()
        answer = await start_live_job(
            self._http,
            choice.offer.transcoder,
            request,
            auth_token=info.auth_token,
            ssl=self.tls,
            timeout=START_TIMEOUT,
        )
        return Started(choice, answer, (time.monotonic() - began) * 1000)

    def _discovery(self, request: OrchestratorRequest) -> Discovery[OrchestratorInfo]:
        async def ask(url: str) -> OrchestratorInfo:
            info = await get_orchestrator(
                url, request, timeout=ASK_TIMEOUT, ssl_context=self._grpc_tls
            )
            if not info.transcoder:
                raise PeerError(f"{url} is not doing work")
            if info.price_info is not None and info.price_info.pixels_per_unit <= 0:
                raise PeerError(f"{url} names a price for no pixels")
            return info

        return Discovery(self._settings.orchestrators, ask, timeout=ASK_TIMEOUT)


def _models(info: OrchestratorInfo) -> Mapping[str, ModelConstraint]:
    return info.capabilities.models() if info.capabilities is not None else {}


def _offer(answer: Answer[OrchestratorInfo], model: str) -> Offer:
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
        log.info("%s cannot serve %s: %s", url, model, error)
    if any(error.code == CAPPED for error in failures.values()):
        return Unavailable("every orchestrator that answers is full", code=CAPPED)
    return Unavailable(f"no orchestrator offers “{model}” at the moment", code="no_orchestrator")


def words(error: RelayError) -> str:
    """What to tell people of a start that failed."""
    return {
        CAPPED: "every worker is busy",
        "peer_timeout": "the orchestrator did not answer in time",
    }.get(error.code, str(error))
