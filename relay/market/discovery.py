"""Asks every orchestrator of a list at once and hands back those that answer in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from relay.errors import PeerTimeout, RelayError

log = logging.getLogger(__name__)

Node = TypeVar("Node")

AT_ONCE: Final = 200
GRACE: Final = 0.1
"""Seconds that the others still get once one good answer is there."""


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


class Discovery(Generic[Node]):
    """One question to many orchestrators.

    Args:
        urls: the operator's list.
        ask: asks one; raises RelayError when it cannot be had.
        timeout: seconds that one may take.
    """

    def __init__(
        self, urls: Sequence[str], ask: Callable[[str], Awaitable[Node]], *, timeout: float = 2.0
    ) -> None:
        self._urls = list(dict.fromkeys(urls))
        self._ask = ask
        self._timeout = timeout
        self.failures: dict[str, RelayError] = {}
        """For each address that failed last time, why."""

    async def find(
        self, wanted: Callable[[Answer[Node]], bool] | None = None
    ) -> list[Answer[Node]]:
        """All good answers; returns ``GRACE`` after the first one that is wanted.

        Args:
            wanted: which answers count as good; None waits for all of them.
        """
        gate = asyncio.Semaphore(AT_ONCE)
        answers: list[Answer[Node]] = []
        found = asyncio.Event()

        async def one(rank: int, url: str) -> None:
            async with gate:
                started = asyncio.get_running_loop().time()
                try:
                    async with asyncio.timeout(self._timeout):
                        node = await self._ask(url)
                except TimeoutError:
                    self.failures[url] = PeerTimeout(f"no answer within {self._timeout:g} s")
                    return
                except RelayError as error:
                    self.failures[url] = error
                    return
                self.failures.pop(url, None)
                latency = asyncio.get_running_loop().time() - started
                answer = Answer(url, rank, latency, node)
                answers.append(answer)
                if wanted is not None and wanted(answer):
                    found.set()

        tasks = [asyncio.create_task(one(rank, url)) for rank, url in enumerate(self._urls)]
        everyone = asyncio.gather(*tasks)
        found_one = asyncio.ensure_future(found.wait())
        try:
            await asyncio.wait((everyone, found_one), return_when=asyncio.FIRST_COMPLETED)
            if everyone.done():
                everyone.result()
            else:
                await asyncio.wait((everyone,), timeout=GRACE)
        finally:
            found_one.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, found_one, everyone, return_exceptions=True)
        return sorted(answers, key=lambda answer: answer.rank)
