"""The catalogue: what was last heard from everyone, by model, and the models' schemas."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import aiohttp

from relay.errors import PeerError, PeerTimeout
from relay.gateway.finder import ASK_TIMEOUT
from relay.gateway.status import ModelOffer
from relay.market.offer import Offer
from relay.rpc.capabilities import LIVE_PIPELINE
from relay.rpc.schema import RunnerSchema, fetch_schema
from relay.rpc.trust import Guard, Trust

log = logging.getLogger(__name__)

MAX_SCHEMAS: Final = 64
"""Schemas asked of one seller in one round: it may name any number of models."""
SCHEMA_AGE: Final = 60.0
"""Seconds after which a schema is fetched again though its version is the same as it was."""
SCHEMAS_AT_ONCE: Final = 50
"""Sellers that are asked for their schemas at the same time."""


class Catalogue:
    """
    Attributes:
        offers: by model, best first.
    """

    def __init__(self, http: aiohttp.ClientSession, trust: Trust) -> None:
        self._http = http
        self._trust = trust
        self._gate = asyncio.Semaphore(SCHEMAS_AT_ONCE)
        self.offers: dict[str, list[Offer]] = {}
        self.schemas: dict[tuple[str, str], RunnerSchema] = {}
        self._fetched: dict[tuple[str, str], tuple[str, float]] = {}

    async def refresh_schemas(self) -> None:
        """Fetch the schemas of everything that is offered; forget those of what is not.

        One that is known is fetched again when another version is offered, none is told, or
        ``SCHEMA_AGE`` is over.
        """
        wanted = {
            (offer.url, offer.transcoder, offer.model): offer.version
            for offers in self.offers.values()
            for offer in offers
        }
        told = {key[1:] for key in wanted}
        self.schemas = {key: value for key, value in self.schemas.items() if key in told}
        now = time.monotonic()
        fetched = self._fetched
        self._fetched = {key: value for key, value in fetched.items() if key in self.schemas}
        models: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for (url, transcoder, model), version in sorted(wanted.items()):
            known, when = self._fetched.get((transcoder, model), ("", 0.0))
            if version and version == known and now - when < SCHEMA_AGE:
                continue
            models.setdefault((url, transcoder), []).append((model, version))
        await asyncio.gather(*(self._load_schemas(*key, named) for key, named in models.items()))

    async def _load_schemas(
        self, url: str, transcoder: str, models: Sequence[tuple[str, str]]
    ) -> None:
        guard = partial(self._trust.meeting, by=url)
        async with self._gate:
            for model, version in models[:MAX_SCHEMAS]:
                before = self.schemas.get((transcoder, model))
                answered = await self.load_schema(transcoder, model, guard)
                if self.schemas.get((transcoder, model)) is not before:
                    self._fetched[transcoder, model] = (version, time.monotonic())
                if not answered:
                    return

    async def load_schema(self, transcoder: str, model: str, guard: Callable[[str], Guard]) -> bool:
        """Fetch the parameters' schema; False when the seller does not answer in time.

        Args:
            guard: what ``transcoder`` is held to.
        """
        try:
            schema = await fetch_schema(
                self._http, transcoder, model, ssl=guard(transcoder).ssl, timeout=ASK_TIMEOUT
            )
        except PeerError as error:
            log.debug("no schema of %s from %s: %s", model, transcoder, error)
            return not isinstance(error, PeerTimeout)
        if schema is not None:
            self.schemas[transcoder, model] = schema
        return True

    def schema(self, transcoder: str | None, model: str) -> RunnerSchema | None:
        """The schema of ``model`` at ``transcoder``; with None, at anyone."""
        if transcoder is not None:
            return self.schemas.get((transcoder, model))
        for (_, name), schema in self.schemas.items():
            if name == model:
                return schema
        return None

    def models(self) -> list[ModelOffer]:
        result = []
        for model, offers in sorted(self.offers.items()):
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
