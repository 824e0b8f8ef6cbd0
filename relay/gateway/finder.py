"""Finds orchestrators: gathers who is known, and asks them what they offer."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import aiohttp

from relay.config import Gateway
from relay.errors import PeerError, RelayError
from relay.gateway.neighbours import Neighbours, same
from relay.gateway.reasons import named, why_not
from relay.market.discovery import AT_ONCE, HURRY, Answer, Discovery
from relay.market.selector import Suspensions
from relay.market.sources import MAX_LISTED, Polled, merge
from relay.rpc.capabilities import LIVE_PIPELINE, Capabilities, ModelConstraint
from relay.rpc.client import get_orchestrator
from relay.rpc.compatibility import INCOMPATIBLE, check_node
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.orchestrator_request import OrchestratorRequest
from relay.rpc.orchestrator_webhook import fetch_list
from relay.rpc.remote_discovery import discover
from relay.rpc.trust import Trust

log = logging.getLogger(__name__)

ASK_TIMEOUT: Final = 2.0
"""Seconds that one orchestrator may take to answer."""
ROUND: Final = 6.0
"""Seconds after which a round ends with what there is (a stock gateway's bound too)."""
CAPPED: Final = "orchestrator_capped"
ALIVE: Final = frozenset({CAPPED, INCOMPATIBLE})
"""Refusals of an orchestrator that is there."""
FIRST_SILENCE: Final = 1.0
LONGEST_SILENCE: Final = 300.0
FEW: Final = 16
"""Of a longer list so many are asked before the others when a stream starts: each question
takes a millisecond or two of a core that also carries the other streams."""
STARTS_AT_ONCE: Final = 4
"""Rounds for streams at the same time: of many more, none would hear its answers soon."""
MAX_TOLD: Final = 20
"""Lines that the log gets of one round."""

Answered = Answer[OrchestratorInfo]


@dataclass(frozen=True, slots=True)
class Found:
    """What a round brought.

    Attributes:
        answers: by place in the list.
        failures: of those that were asked and cannot be had, why.
    """

    answers: list[Answered] = field(default_factory=list)
    failures: dict[str, RelayError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Round:
    urls: list[str]
    request: OrchestratorRequest
    wanted: Callable[[Answered], bool] | None
    heard: Callable[[Answered], None] | None


class Finder:
    """Knows the orchestrators of all lists, asks them, and leaves the silent alone for a while.

    Args:
        http: the gateway's client session; for lists only.
        trust: what orchestrators are held to.
    """

    def __init__(
        self,
        settings: Gateway,
        http: aiohttp.ClientSession,
        trust: Trust,
        *,
        seed: int | None = None,
    ) -> None:
        self._settings = settings
        self._trust = trust
        self._random = random.Random(seed)
        self._lists = _lists(settings, http)
        self._silent = Suspensions(
            first=FIRST_SILENCE,
            longest=LONGEST_SILENCE,
            forgiven_after=4 * LONGEST_SILENCE,
            one_at_a_time=True,
        )
        self._urls: list[str] | None = None
        self._answered: set[str] = set()
        self._neighbours = Neighbours(settings.extra_nodes)
        self._failures: dict[str, str] = {}
        # A round of refreshing never keeps a stream from asking.
        self._starting = asyncio.Semaphore(AT_ONCE)
        self._refreshing = asyncio.Semaphore(AT_ONCE)
        self._turns = asyncio.Semaphore(STARTS_AT_ONCE)
        self.changed = asyncio.Event()
        """Set when a list has become another one."""

    # --- who is known ---------------------------------------------------------------

    @property
    def urls(self) -> list[str]:
        """Everyone of all lists, best first: the operator's own, then by score."""
        if self._urls is None:
            fetched = ([entry.address for entry in one.roll.entries] for one in self._lists)
            lists = [self._settings.own_orchestrators, *fetched]
            self._urls = merge(lists, lambda url: same(url) or url)
        return self._urls

    async def follow(self) -> None:
        """Fetch the lists again when they are due, for as long as the gateway lives."""
        await asyncio.gather(*(self._follow(one) for one in self._lists))

    async def _follow(self, polled: Polled) -> None:
        while True:
            await self.poll(polled)
            await asyncio.sleep(max(0.1, polled.wait(time.monotonic())))

    async def poll(self, polled: Polled) -> None:
        before = polled.failure
        if await polled.poll(time.monotonic()):
            roll = polled.roll
            log.info(
                "%s lists %d orchestrators, %d entries skipped",
                polled.name,
                len(roll.entries),
                roll.skipped,
            )
            self._urls = None
            self.changed.set()
        if polled.failure and polled.failure != before:
            log.warning("%s cannot be had: %s", polled.name, polled.failure)

    # --- asking ---------------------------------------------------------------------

    def request(self, *models: str) -> OrchestratorRequest:
        """What to ask for: the models by name, or without any everything there is."""
        if not models:
            return OrchestratorRequest()
        wanted = {model: self.minimum(model) for model in models}
        return OrchestratorRequest(capabilities=self._ours(wanted))

    def minimum(self, model: str) -> ModelConstraint:
        version = self._settings.min_runner_version.get(model, "")
        return ModelConstraint(runner_version=version)

    def _ours(self, models: Mapping[str, ModelConstraint]) -> Capabilities:
        return replace(
            Capabilities.live(models), min_version=self._settings.min_orchestrator_version
        )

    async def find(
        self,
        request: OrchestratorRequest,
        wanted: Callable[[Answered], bool] | None = None,
        heard: Callable[[Answered], None] | None = None,
        enough: Callable[[Answered], bool] | None = None,
        best: Sequence[str] = (),
    ) -> Found:
        """Who answers ``request``, and why the others do not.

        Of a long list the ``best`` are asked first, and the others when that brings
        nobody soon. Who was silent lately is asked only when nobody else does it: the
        longest silent first, ``AT_ONCE`` of them.

        Args:
            wanted: which answer is good enough to wait only a little for the others;
                None waits for all.
            heard: called with each answer as it comes.
            enough: which answer is good enough to leave the silent alone; any by default.
            best: those who did it before, best first.
        """
        if wanted is not None:
            async with self._turns:
                return await self._find(_Round(self.urls, request, wanted, heard), enough, best)
        return await self._find(_Round(self.urls, request, wanted, heard), enough, best)

    async def _find(
        self, round_: _Round, enough: Callable[[Answered], bool] | None, best: Sequence[str]
    ) -> Found:
        standing, silent = self._order(round_.urls, round_.request)
        found, wanted = Found(), round_.wanted
        if wanted is not None and best and len(standing) > FEW:
            known = set(standing)
            few = [url for url in best if url in known][:FEW]
            await self._wave(found, round_, few, HURRY, {})
            if any(wanted(answer) for answer in found.answers):
                return found
            settled = {answer.url for answer in found.answers} | found.failures.keys()
            standing = [url for url in standing if url not in settled]
        for order in (standing, None, silent):
            if order is None:
                # Of who is full or away, its neighbours as it last named them.
                named = self._left_alone(found, silent)
                await self._wave(found, round_, [*named], ROUND, named)
            else:
                await self._wave(found, round_, order, ROUND, {})
            if any(enough is None or enough(answer) for answer in found.answers):
                break
        if wanted is None:
            self._note_failures(round_.urls, found)
        return found

    def _left_alone(self, found: Found, silent: Sequence[str]) -> dict[str, str]:
        """Whom those named who do not answer now, and who named them; none asked already."""
        now = time.monotonic()
        asked = found.failures.keys() | {answer.url for answer in found.answers}
        listed = {same(url) for url in self.urls}
        return {
            url: by
            for url, by in self._neighbours.of([*found.failures, *silent]).items()
            if url not in asked
            and same(url) not in listed
            and not self._silent.suspended_until(url, now)
        }

    async def _wave(
        self,
        found: Found,
        round_: _Round,
        order: Sequence[str],
        limit: float,
        named: dict[str, str],
    ) -> None:
        """Ask those of ``order``, and take down what is learnt of each as soon as it is.

        Args:
            named: by whom some were named; gets those that are named in this wave.
        """

        def hear(answer: Answered) -> None:
            self._silent.succeed(answer.url)
            self._answered.add(answer.url)
            if round_.heard is not None:
                round_.heard(answer)

        def miss(url: str, error: RelayError) -> None:
            if error.code not in ALIVE:
                self._silent.fail(url, time.monotonic())
                self._answered.discard(url)

        urls, wanted = round_.urls, round_.wanted
        discovery = Discovery(
            urls,
            lambda url: self.ask(url, round_.request, by=named.get(url)),
            timeout=ASK_TIMEOUT,
            order=order,
            gate=self._refreshing if wanted is None else self._starting,
            more=self._further(urls, named) if self._settings.extra_nodes else None,
        )
        found.answers.extend(await discovery.find(wanted, heard=hear, missed=miss, limit=limit))
        found.answers.sort(key=lambda answer: answer.rank)
        found.failures.update(discovery.failures)
        if len(self._answered) > 2 * MAX_LISTED:
            self._answered.intersection_update(urls)

    def _order(
        self, urls: Sequence[str], request: OrchestratorRequest
    ) -> tuple[list[str], list[str]]:
        """Whom to ask and in what order, and whom only when nobody of those will do.

        Who answered before comes first. The order of the others is by chance, so that no
        list decides how long the dead hide the living.
        """
        now = time.monotonic()
        silent = [url for url in urls if self._silent.suspended_until(url, now)]
        silent.sort(key=self._silent.last)
        standing = [url for url in urls if not self._silent.suspended_until(url, now)]
        named = self._named(request)
        known = [url for url in standing if url in self._answered]
        others = [url for url in standing if url not in self._answered]
        self._random.shuffle(others)
        others.sort(key=lambda url: url not in named)
        return known + others, silent[:AT_ONCE]

    def _named(self, request: OrchestratorRequest) -> set[str]:
        """Who, by the lists, has what is asked for."""
        models = request.capabilities.models() if request.capabilities else {}
        wanted = {f"{LIVE_PIPELINE}/{model}" for model in models}
        return {
            entry.address
            for one in self._lists
            for entry in one.roll.entries
            if wanted and not wanted.isdisjoint(entry.capabilities)
        }

    def _further(
        self, urls: Sequence[str], named: dict[str, str]
    ) -> Callable[[Answered], Iterable[str]]:
        """The further addresses of an operator that an answer names, each once a round.

        Args:
            named: gets who named each of them.
        """
        seen = {same(url) for url in urls}

        def more(answer: Answered) -> list[str]:
            now, result = time.monotonic(), []
            for url in self._neighbours.note(answer.url, answer.node.nodes):
                name = same(url)
                if name in seen or self._silent.suspended_until(url, now):
                    continue
                seen.add(name)
                named[url] = answer.url
                result.append(url)
            return result

        return more

    async def ask(
        self, url: str, request: OrchestratorRequest, *, by: str | None = None
    ) -> OrchestratorInfo:
        """
        Args:
            by: the orchestrator that named the address, if one did.

        Raises:
            PeerRefused: it refuses, or does not fit (``orchestrator_incompatible``).
            PeerError: it cannot be reached, does no work, or names a price that is none.
        """
        guard = self._trust.greeting(url, by=by)
        info = await get_orchestrator(url, request, timeout=ASK_TIMEOUT, guard=guard)
        if not info.transcoder:
            raise PeerError(f"{url} is not doing work")
        price = info.price_info
        if price is not None and (price.pixels_per_unit <= 0 or price.price_per_unit < 0):
            raise PeerError(f"{url} names a price that is none")
        check_node(request.capabilities or self._ours({}), info.capabilities)
        return info

    # --- what people are told ---------------------------------------------------------

    def silence(self) -> str:
        """Why nobody sells, in words."""
        trouble = [f"{one.name}: {one.failure}" for one in self._lists if one.failure]
        if not self.urls:
            if trouble:
                return "no list of orchestrators can be had: " + "; ".join(trouble)
            if self._lists:
                return "no list of orchestrators has named one yet"
            return "no orchestrator is configured (gateway.orchestrators)"
        if not self._failures:
            return "no orchestrator has answered yet"
        return f"no orchestrator answers: {named(self._failures)}"

    def _note_failures(self, urls: Sequence[str], found: Found) -> None:
        """Log who cannot be had, once for each change of it."""
        told = {url: why_not(url, error) for url, error in found.failures.items()}
        new = [(url, why) for url, why in told.items() if self._failures.get(url) != why]
        for url, why in new[:MAX_TOLD]:
            log.warning("orchestrator %s cannot be had: %s", url, why)
        if len(new) > MAX_TOLD:
            log.warning("and %d more orchestrators cannot be had", len(new) - MAX_TOLD)
        back = [answer.url for answer in found.answers if answer.url in self._failures]
        for url in back[:MAX_TOLD]:
            log.info("orchestrator %s answers again", url)
        known = set(urls) - set(back)
        kept = {url: why for url, why in self._failures.items() if url in known}
        self._failures = kept | told


def _lists(settings: Gateway, http: aiohttp.ClientSession) -> list[Polled]:
    lists = []
    if (webhook := settings.orchestrator_webhook) is not None:
        headers = settings.orchestrator_webhook_headers
        lists.append(
            Polled(
                "gateway.orchestrator_webhook", lambda: fetch_list(http, webhook, headers=headers)
            )
        )
    if (signer := settings.remote_signer) is not None:
        lists.append(
            Polled(
                "gateway.remote_signer",
                lambda: discover(
                    http,
                    signer,
                    models=settings.discovery_models,
                    headers=settings.remote_signer_headers,
                ),
            )
        )
    return lists
