"""Finds orchestrators: asks those that are known what they offer."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from typing import Final

from relay.config import Gateway
from relay.errors import PeerError, RelayError
from relay.market.discovery import Answer, Discovery
from relay.rpc.client import get_orchestrator
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.orchestrator_request import OrchestratorRequest

log = logging.getLogger(__name__)

ASK_TIMEOUT: Final = 2.0
"""Seconds that one orchestrator may take to answer."""

Answered = Answer[OrchestratorInfo]


class Finder:
    """Asks every orchestrator that is known; remembers who cannot be had, and why.

    Args:
        tls: the context of gRPC calls, with ALPN ``h2``.
    """

    def __init__(self, settings: Gateway, tls: ssl.SSLContext) -> None:
        self._settings = settings
        self._tls = tls
        self._failures: dict[str, str] = {}

    async def find(
        self, request: OrchestratorRequest, wanted: Callable[[Answered], bool] | None = None
    ) -> tuple[list[Answered], Mapping[str, RelayError]]:
        """Who answers ``request``, by place in the list, and why the others did not.

        Args:
            wanted: which answer is good enough to wait only a little for the others;
                None waits for all.
        """
        discovery = Discovery(
            self._settings.orchestrators, lambda url: self.ask(url, request), timeout=ASK_TIMEOUT
        )
        answers = await discovery.find(wanted)
        if wanted is None:
            self._note_failures(discovery.failures)
        return answers, discovery.failures

    async def ask(self, url: str, request: OrchestratorRequest) -> OrchestratorInfo:
        """
        Raises:
            PeerError: it cannot be reached, does no work, or names a price that is none.
        """
        info = await get_orchestrator(url, request, timeout=ASK_TIMEOUT, ssl_context=self._tls)
        if not info.transcoder:
            raise PeerError(f"{url} is not doing work")
        if info.price_info is not None and info.price_info.pixels_per_unit <= 0:
            raise PeerError(f"{url} names a price for no pixels")
        return info

    def silence(self) -> str:
        """Why nobody sells, in words."""
        if not self._settings.orchestrators:
            return "no orchestrator is configured (gateway.orchestrators)"
        if not self._failures:
            return "no orchestrator has answered yet"
        first = list(self._failures.items())[:3]
        return "no orchestrator answers: " + "; ".join(f"{url}: {why}" for url, why in first)

    def _note_failures(self, failures: Mapping[str, RelayError]) -> None:
        """Log who cannot be had, once for each change of it."""
        told = {url: str(error) for url, error in failures.items()}
        for url, why in told.items():
            if self._failures.get(url) != why:
                log.warning("orchestrator %s cannot be had: %s", url, why)
        for url in self._failures.keys() - told.keys():
            log.info("orchestrator %s answers again", url)
        self._failures = told
