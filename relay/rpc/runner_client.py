"""An orchestrator's side of the runner API."""

from __future__ import annotations

from typing import Final

import aiohttp

from relay.errors import BadInput, PeerError, PeerRefused
from relay.rpc.hardware import HardwareInformation
from relay.rpc.http import HttpAnswer, Ssl, call
from relay.rpc.runner import (
    HARDWARE_PATH,
    HEALTH_PATH,
    NO_CAPACITY,
    START_PATH,
    VERSION_PATH,
    RunnerHealth,
    RunnerStart,
    RunnerVersion,
    parse_hardware,
)
from relay.rpc.schema import RunnerSchema, detail_of, fetch_runner_schema

MAX_ANSWER: Final = 64 << 10


class RunnerClient:
    """One runner, by its address; sends its bearer token where it has one.

    Every call raises PeerTimeout when it is not answered in time, and PeerError with
    code ``peer_unreachable`` when there is no connection.
    """

    def __init__(
        self, session: aiohttp.ClientSession, url: str, *, token: str | None, ssl: Ssl = True
    ) -> None:
        self.url = url.rstrip("/")
        self._session = session
        self._ssl = ssl
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def health(self, *, timeout: float) -> RunnerHealth:
        """
        Raises:
            PeerRefused: another status than 200.
            PeerError: a 200 that says no status.
        """
        answer = await self._get(HEALTH_PATH, timeout)
        try:
            return RunnerHealth.parse(answer.body)
        except BadInput as error:
            raise PeerError(f"{self.url}: {error}", code="peer_answer") from error

    async def version(self, *, timeout: float) -> str:
        """What it calls its version; ``0.0.0`` from a runner that does not tell."""
        try:
            answer = await self._get(VERSION_PATH, timeout)
            return RunnerVersion.parse(answer.body).version
        except (PeerRefused, BadInput):
            return "0.0.0"

    async def hardware(self, *, timeout: float) -> HardwareInformation | None:
        """Its cards; None from a runner that does not tell."""
        try:
            answer = await self._get(HARDWARE_PATH, timeout)
            return parse_hardware(answer.body)
        except (PeerRefused, BadInput):
            return None

    async def schema(self, model_id: str, *, timeout: float) -> RunnerSchema | None:
        """The schema of a model's parameters; None from a runner that tells none (404).

        Raises:
            PeerRefused: code ``model_broken``: it could not be loaded, and the text is
                why; any other: it is not loaded yet, perhaps.
        """
        return await fetch_runner_schema(
            self._session,
            self.url,
            model_id,
            headers=self._headers,
            ssl=self._ssl,
            timeout=timeout,
        )

    async def start(self, start: RunnerStart, *, timeout: float) -> None:
        """Start a job.

        Raises:
            PeerRefused: it answered no, with the words of a stock orchestrator. Code
                ``runner_capacity``: it is busy; ``runner_bad_request``: the job itself
                is wrong; ``runner_refused``: anything else.
        """
        answer = await call(
            self._session,
            "POST",
            self.url + START_PATH,
            timeout=timeout,
            limit=MAX_ANSWER,
            ssl=self._ssl,
            headers={**self._headers, "Content-Type": "application/json"},
            body=start.serialise(),
        )
        if answer.status == 200:
            return
        text = _without(start.trickle_token, detail_of(answer))
        if answer.status == 503 or NO_CAPACITY in text:
            code = "runner_capacity"
        elif answer.status in (400, 422):
            code = "runner_bad_request"
        else:
            code = "runner_refused"
        raise PeerRefused(
            f"live-video-to-video container returned {answer.status}: {text}", code=code
        )

    async def _get(self, path: str, timeout: float) -> HttpAnswer:
        url = self.url + path
        answer = await call(
            self._session,
            "GET",
            url,
            timeout=timeout,
            limit=MAX_ANSWER,
            ssl=self._ssl,
            headers=self._headers,
        )
        if answer.status != 200:
            raise PeerRefused(f"GET {url} answered {answer.status}: {answer.text}")
        return answer


def _without(token: str, text: str) -> str:
    """Some runners quote the whole request in a refusal, and the text goes to gateways and
    to the log. It may be cut in mid-token, so the beginning of one ends it."""
    return text.partition(token[:8])[0] if token else text
