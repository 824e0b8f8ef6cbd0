"""Asks the orchestrators of a list, many at once, and hands back those that answer in time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from relay.errors import PeerTimeout, RelayError

Node = TypeVar("Node")

AT_ONCE: Final = 100
"""Questions that are open at the same time, and with them connections."""
GRACE: Final = 0.1
"""Seconds that the others still get once one good answer is there."""
HURRY: Final = 0.5
"""Seconds that one gets at first while others wait for their turn: who takes longer is asked
again at the end, so that a list of dead ones does not hide the living behind them."""
MAX_ASKED: Final = 4096
"""Orchestrators that one round asks, those included that it is told of on the way."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[Node]):
    """What one orchestrator said.

    Attributes:
        url: the address of the list that was asked.
        rank: its place in the list.
        latency: seconds until it answered.
        node: what it said.
    """

    url: str
    rank: int
    latency: float
    node: Node


Wanted = Callable[[Answer[Node]], bool]


class Discovery(Generic[Node]):
    """One question to many orchestrators, once.

    Args:
        urls: the operator's list, best first.
        ask: asks one; raises RelayError when it cannot be had.
        timeout: seconds that one may take.
        order: which of ``urls`` are asked, and in what order; None asks all as they stand.
        gate: what bounds the open questions, when rounds share the bound.
        more: further addresses that an answer leads to. They are asked too, and what
            they lead to is not.
    """

    def __init__(
        self,
        urls: Sequence[str],
        ask: Callable[[str], Awaitable[Node]],
        *,
        timeout: float = 2.0,
        order: Sequence[str] | None = None,
        gate: asyncio.Semaphore | None = None,
        more: Callable[[Answer[Node]], Iterable[str]] | None = None,
    ) -> None:
        self._ranks = {url: rank for rank, url in enumerate(dict.fromkeys(urls))}
        asked = list(self._ranks if order is None else order)[:MAX_ASKED]
        self._pending = deque(asked, maxlen=MAX_ASKED)
        self._left = MAX_ASKED - len(asked)
        self._ask = ask
        self._timeout = timeout
        self._gate = gate or asyncio.Semaphore(AT_ONCE)
        self._more = more
        self._missed: Callable[[str, RelayError], None] | None = None
        self._slow: set[str] = set()
        self._workers: set[asyncio.Task[None]] = set()
        self._answers: list[Answer[Node]] = []
        self._fault: BaseException | None = None
        self._over = asyncio.Event()
        self._enough = asyncio.Event()
        self.failures: dict[str, RelayError] = {}
        """For each address that failed, why."""

    async def find(
        self,
        wanted: Wanted[Node] | None = None,
        *,
        heard: Callable[[Answer[Node]], None] | None = None,
        missed: Callable[[str, RelayError], None] | None = None,
        limit: float | None = None,
    ) -> list[Answer[Node]]:
        """All good answers, by rank; returns ``GRACE`` after the first one that is wanted.

        Args:
            wanted: which answers count as good; None waits for all of them.
            heard: called with each answer as it comes.
            missed: called with each address that cannot be had, and why.
            limit: seconds after which it returns with what there is.
        """

        def hear(answer: Answer[Node]) -> None:
            self._answers.append(answer)
            if heard is not None:
                heard(answer)
            if self._more is not None and answer.url in self._ranks:
                self._add(self._more(answer))
            if wanted is not None and wanted(answer):
                self._enough.set()

        self._missed = missed
        if not self._pending:
            return []
        self._fill(hear)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(limit):
                    await self._enough.wait()
                async with asyncio.timeout(GRACE):
                    await self._over.wait()
        finally:
            workers = [*self._workers]
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if self._fault is not None:
            raise self._fault
        return sorted(self._answers, key=lambda answer: answer.rank)

    def _add(self, urls: Iterable[str]) -> None:
        for url in urls:
            if self._left > 0:
                self._left -= 1
                self._pending.append(url)

    def _fill(self, hear: Callable[[Answer[Node]], None]) -> None:
        while len(self._workers) < min(AT_ONCE, len(self._pending)):
            task = asyncio.create_task(self._work(hear))
            self._workers.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._workers.discard(task)
        if not task.cancelled():
            self._fault = self._fault or task.exception()
        if self._fault is not None or not self._workers:
            self._over.set()
            self._enough.set()

    async def _work(self, hear: Callable[[Answer[Node]], None]) -> None:
        """Ask one after the other, until nobody is left to ask."""
        while self._pending and self._fault is None:
            url = self._pending.popleft()
            async with self._gate:
                answer = await self._one(url)
            if answer is not None:
                hear(answer)
                self._fill(hear)

    async def _one(self, url: str) -> Answer[Node] | None:
        clock = asyncio.get_running_loop().time
        began = clock()
        hurry = bool(self._pending) and url not in self._slow
        try:
            async with asyncio.timeout(min(HURRY, self._timeout) if hurry else self._timeout):
                node = await self._ask(url)
        except TimeoutError:
            if hurry and self._timeout > HURRY:
                self._slow.add(url)
                self._pending.append(url)
                return None
            self._miss(url, PeerTimeout(f"no answer within {self._timeout:g} s"))
            return None
        except RelayError as error:
            self._miss(url, error)
            return None
        return Answer(url, self._ranks.get(url, len(self._ranks)), clock() - began, node)

    def _miss(self, url: str, error: RelayError) -> None:
        self.failures[url] = error
        if self._missed is not None:
            self._missed(url, error)
