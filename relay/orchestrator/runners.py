"""The runners behind this orchestrator: watched, so that a lost one is known at once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Final

import aiohttp

from relay.config import Runner
from relay.errors import PeerError, PeerRefused
from relay.orchestrator.capacity import Capacity, Entry
from relay.rpc.capabilities import ModelConstraint
from relay.rpc.hardware import HardwareInformation
from relay.rpc.runner import RunnerHealth, RunnerStatus
from relay.rpc.runner_client import RunnerClient
from relay.rpc.schema import TOKEN_REFUSED, RunnerSchema
from relay.states import StateMachine

log = logging.getLogger(__name__)

HEALTH_TIMEOUT: Final = 2.0
FAST: Final = 1.0
"""Seconds between two looks at a runner that works for us, or does not work at all."""

AGAIN: Final = 0.2
"""Seconds from a look that failed to the one that decides."""

FAILURES: Final = 2
DETAILS_EVERY: Final = 30.0
DETAILS_TIMEOUT: Final = 2.0
MAX_REASON: Final = 500
"""Characters of a runner's reason that are handed on."""


class RunnerState(Enum):
    NEW = "new"  # not looked at yet
    UP = "up"
    LOADING = "loading"
    DOWN = "down"


WAITING: Final = {
    RunnerState.NEW: "its runner was not asked yet",
    RunnerState.UP: "its runner is up",
    RunnerState.LOADING: "its runner is loading",
    RunnerState.DOWN: "its runner does not answer well; the log says why",
}
MAX_TOLD: Final = 8
"""Models that one reason names."""

_TABLE: Final[Mapping[RunnerState, frozenset[RunnerState]]] = {
    RunnerState.NEW: frozenset({RunnerState.UP, RunnerState.LOADING, RunnerState.DOWN}),
    RunnerState.UP: frozenset({RunnerState.LOADING, RunnerState.DOWN}),
    RunnerState.LOADING: frozenset({RunnerState.UP, RunnerState.DOWN}),
    RunnerState.DOWN: frozenset({RunnerState.UP, RunnerState.LOADING}),
}


class Watched:
    """One runner, by its address: its state, and what it told of itself."""

    def __init__(self, client: RunnerClient, models: Sequence[str]) -> None:
        self.client = client
        self.models = tuple(dict.fromkeys(models))
        self.version = ""
        self.hardware: HardwareInformation | None = None
        self.schemas: dict[str, RunnerSchema] = {}
        self.broken: dict[str, str] = {}  # models that it could not load, and why
        self.refusal = ""  # in words, while it does not take our token
        self.complaints: dict[str, str] = {}  # what was logged of its answers, by model
        self.failures = 0
        self.forgot = 0  # looks in a row at which it said that it runs none of our jobs
        self.detailed: float | None = None  # when the details were last complete
        self._machine = StateMachine(f"runner {client.url}", RunnerState.NEW, _TABLE, log=log)
        self._wake = asyncio.Event()

    @property
    def state(self) -> RunnerState:
        return self._machine.state

    def to(self, state: RunnerState, reason: str = "") -> bool:
        return self._machine.to(state, reason)

    def look_now(self) -> None:
        """Have the next look at once."""
        self._wake.set()

    def take_broken(self, names: Sequence[str]) -> None:
        """What its health says it could not load; the reasons are asked for apart."""
        told = set(self.models) if self.refusal else set(self.models) & set(names)
        if told != self.broken.keys():
            self.detailed = None
            if told:
                log.warning("runner %s could not load %s", self.client.url, ", ".join(sorted(told)))
        for model in told:
            self.schemas.pop(model, None)
        default = self.refusal or "model {!r} could not be loaded"
        self.broken = {model: self.broken.get(model, default.format(model)) for model in told}

    def refused(self, words: str) -> None:
        """It takes no order of ours: nothing of it is sold until it does."""
        if words and words != self.refusal:
            log.warning("runner %s: %s", self.client.url, words)
        changed = words != self.refusal
        self.refusal = words
        if changed:
            self.broken = dict.fromkeys(self.models, words) if words else {}

    def complain(self, what: str, words: str) -> None:
        """Log an answer that does not do, once; empty words take the complaint back."""
        if words and self.complaints.get(what) != words:
            log.info("runner %s does not tell all of itself: %s", self.client.url, words)
        self.complaints[what] = words

    async def wait(self, seconds: float) -> None:
        """Until the next look is due, or was asked for."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()


class Runners:
    """
    Args:
        configured: what is sold; entries with one address are one runner.
        session: for the calls to them.
        interval: seconds between two looks at a runner that is well and idle.
        on_lost: called with a runner's address and a reason when its jobs are lost.
    """

    def __init__(
        self,
        configured: Sequence[Runner],
        session: aiohttp.ClientSession,
        *,
        interval: float,
        on_lost: Callable[[str, str], None],
    ) -> None:
        entries = [
            Entry(number, runner.model_id, runner.url.rstrip("/"), runner.capacity, runner.warm)
            for number, runner in enumerate(configured)
        ]
        self.capacity = Capacity(entries)
        self._interval = interval
        self._on_lost = on_lost
        tokens = {
            entry.url: runner.token for entry, runner in zip(entries, configured, strict=True)
        }
        self.watched = {
            url: Watched(
                RunnerClient(session, url, token=token),
                [entry.model for entry in entries if entry.url == url],
            )
            for url, token in tokens.items()
        }

    # what the others ask

    @property
    def usable(self) -> frozenset[str]:
        """Addresses of the runners that work."""
        return frozenset(
            url for url, runner in self.watched.items() if runner.state is RunnerState.UP
        )

    def why_unusable(self) -> str:
        """What each runner's models wait for, without the runners' addresses."""
        told = [
            f"{model}: {runner.broken.get(model) or WAITING[runner.state]}"
            for runner in self.watched.values()
            for model in runner.models
        ]
        return "; ".join(told[:MAX_TOLD]) or "no runner is configured (orchestrator.models)"

    def candidates(self, model: str) -> list[Entry]:
        return self.capacity.candidates(model, self._able(model))

    def _able(self, model: str) -> frozenset[str]:
        """Addresses of the runners that work, and could load ``model``."""
        return frozenset(url for url in self.usable if model not in self.watched[url].broken)

    def problem(self, model: str) -> str:
        """Why no runner here takes a job of ``model``, in the words of one; empty
        when one could, now or once it is loaded or free."""
        words = ""
        for runner in self.watched.values():
            if model in runner.broken:
                words = words or runner.broken[model]
            elif model in runner.models and runner.state is not RunnerState.DOWN:
                return ""
        return words

    def client(self, entry: Entry) -> RunnerClient:
        return self.watched[entry.url].client

    def look_now(self, url: str) -> None:
        self.watched[url].look_now()

    def constraints(self) -> dict[str, ModelConstraint]:
        """What is told of each model that a runner here has, loading ones included."""
        told: dict[str, ModelConstraint] = {}
        for entry in self.capacity.entries:
            runner = self.watched[entry.url]
            if runner.state not in (RunnerState.UP, RunnerState.LOADING):
                continue
            if entry.model in runner.broken:
                continue
            before = told.get(entry.model)
            versions = [runner.version or "0.0.0"]
            if before is not None:
                versions.append(before.runner_version)
            warm = entry.warm and runner.state is RunnerState.UP
            told[entry.model] = ModelConstraint(
                warm=warm or (before is not None and before.warm),
                capacity=self.capacity.free(entry.model, self._able(entry.model)),
                runner_version=min(versions, key=_version_key),
                capacity_in_use=self.capacity.in_use(entry.model),
            )
        return told

    def hardware(self) -> tuple[HardwareInformation, ...]:
        """One item a model that is offered, as stock nodes list it."""
        return tuple(
            HardwareInformation(
                runner.hardware.pipeline if runner.hardware else "live-video-to-video",
                model,
                runner.hardware.gpus if runner.hardware else {},
            )
            for runner in self.watched.values()
            if runner.state is RunnerState.UP
            for model in runner.models
            if model not in runner.broken
        )

    def schema(self, model: str) -> RunnerSchema | None:
        """The schema of a model, from a runner that works, else from one that did."""
        told = [
            (runner.state is not RunnerState.UP, runner.schemas[model])
            for runner in self.watched.values()
            if model in runner.schemas
        ]
        return min(told, key=lambda item: item[0])[1] if told else None

    def describe(self) -> list[dict[str, object]]:
        """For the status: what is sold and how it stands, without addresses."""
        return [
            {
                "runner": entry.number,
                "model_id": entry.model,
                "state": self.watched[entry.url].state.value,
                "version": self.watched[entry.url].version,
                "capacity": entry.capacity,
                "free": (
                    self.capacity.places(entry) if entry.url in self._able(entry.model) else 0
                ),
                "warm": entry.warm,
                "broken": entry.model in self.watched[entry.url].broken,
            }
            for entry in self.capacity.entries
        ]

    # the watch

    async def watch(self, url: str) -> None:
        """Look at one runner for ever."""
        runner = self.watched[url]
        while True:
            await self.look(url)
            if runner.state is RunnerState.UP or runner.broken:
                await self._ask_details(runner)
            await runner.wait(self._pause(url))

    async def look(self, url: str) -> None:
        """One look at a runner's health, and what follows from it."""
        runner = self.watched[url]
        try:
            health = await runner.client.health(timeout=HEALTH_TIMEOUT)
        except PeerError as error:
            runner.failures += 1
            if runner.failures >= FAILURES or runner.state is not RunnerState.UP:
                runner.broken = {}
                self._down(url, f"no health: {error}")
            return
        runner.failures = 0
        self._well(url, health)

    def _well(self, url: str, health: RunnerHealth) -> None:
        runner = self.watched[url]
        now = time.monotonic()
        self.capacity.report(url, health.slots, now)
        runner.take_broken(health.broken)
        if health.status is RunnerStatus.ERROR:
            self._down(url, "it reports an error")
        elif health.status is RunnerStatus.LOADING and not self.capacity.jobs_at(url):
            runner.to(RunnerState.LOADING)
        elif health.status is not RunnerStatus.LOADING:
            if runner.state is not RunnerState.UP:
                runner.detailed = None
            runner.to(RunnerState.UP)

        runner.forgot = runner.forgot + 1 if self.capacity.forgotten(url, now) else 0
        if runner.forgot >= FAILURES:
            self._on_lost(url, "runner lost: it was started again")

    def _down(self, url: str, reason: str) -> None:
        self.watched[url].to(RunnerState.DOWN, reason)
        if self.capacity.jobs_at(url):
            self._on_lost(url, f"runner lost: {reason}")

    def _pause(self, url: str) -> float:
        runner = self.watched[url]
        if runner.failures and runner.state is RunnerState.UP:
            return min(AGAIN, self._interval)
        busy = self.capacity.jobs_at(url) or self.capacity.crowded(url)
        if busy or runner.state is not RunnerState.UP:
            return min(FAST, self._interval)
        return self._interval

    async def _ask_details(self, runner: Watched) -> None:
        """Version, cards and schemas: when it comes up, and now and then."""
        now = time.monotonic()
        if runner.detailed is not None and now - runner.detailed < DETAILS_EVERY:
            return
        client, timeout = runner.client, DETAILS_TIMEOUT
        try:
            runner.version = await client.version(timeout=timeout)
            runner.hardware = await client.hardware(timeout=timeout)
        except PeerError as error:
            runner.complain("", str(error))
            return
        runner.complain("", "")
        # All at once: one that is late must not keep the next look at the runner waiting.
        whole = await asyncio.gather(*(_ask_schema(runner, model) for model in runner.models))
        if all(whole):
            runner.detailed = now


async def _ask_schema(runner: Watched, model: str) -> bool:
    """Ask for one model's schema, or for why it has none; False when that is not known."""
    try:
        schema = await runner.client.schema(model, timeout=DETAILS_TIMEOUT)
    except PeerError as error:
        if error.code == TOKEN_REFUSED:
            runner.refused("the runner does not take the orchestrator's token")
            return False
        runner.complain(model, f"{model}: {error}")
        if not (isinstance(error, PeerRefused) and error.code == "model_broken"):
            return False
        if model in runner.broken:
            runner.broken[model] = str(error)[:MAX_REASON]
        return model in runner.broken
    runner.complain(model, "")
    runner.refused("")
    if schema is not None and model not in runner.broken:
        runner.schemas[model] = schema
    else:
        runner.schemas.pop(model, None)
    return True


def _version_key(version: str) -> tuple[int, ...]:
    """For the lowest of versions: their numbers, a suffix left out."""
    numbers = [*version.partition("-")[0].lstrip("v").split("."), "0", "0", "0"][:4]
    return tuple(int(part) if part.isascii() and part.isdigit() else 0 for part in numbers)
