"""Tells the operator's service which streams live, and ends those that it names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import aiohttp

from relay.errors import PeerError, RelayError
from relay.policy import heartbeat
from relay.rpc.http import call
from relay.rpc.json_body import load_object

log = logging.getLogger(__name__)

TIMEOUT: Final = 5.0
MAX_ANSWER: Final = 1 << 20


class Heartbeat:
    """
    Args:
        headers: sent along with each beat.
        living: the ids of the streams that live now.
        end: called with the ids that must end; it does not wait.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        *,
        interval: float,
        headers: Mapping[str, str],
        living: Callable[[], Iterable[str]],
        end: Callable[[frozenset[str]], None],
    ) -> None:
        self._http = http
        self._url = url
        self._interval = interval
        self._headers = {"Content-Type": "application/json", **headers}
        self._living = living
        self._end = end
        self._failing = ""

    async def run(self) -> None:
        """Beat for as long as the gateway lives; a beat that fails changes no stream."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                ended = await self._beat()
            except RelayError as error:
                self._note(error.code, str(error))
            else:
                self._note("", "")
                if ended:
                    self._end(ended)

    async def _beat(self) -> frozenset[str]:
        answer = await call(
            self._http,
            "POST",
            self._url,
            timeout=TIMEOUT,
            limit=MAX_ANSWER,
            headers=self._headers,
            body=heartbeat.body(self._living()),
        )
        if not 200 <= answer.status < 300:
            raise PeerError(f"it answered {answer.status}", code=f"http_{answer.status}")
        if not answer.body.strip():
            return frozenset()
        return heartbeat.terminated(load_object(answer.body, what="the answer", limit=MAX_ANSWER))

    def _note(self, code: str, why: str) -> None:
        """Log an outage when it begins, changes its kind, and ends."""
        if code != self._failing:
            if code:
                log.warning("the heartbeat does not arrive: %s", why)
            else:
                log.info("the heartbeat arrives again")
        self._failing = code
