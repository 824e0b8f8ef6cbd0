"""One piece of work for all who ask for it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


@dataclass(slots=True)
class _Flight(Generic[Value]):
    task: asyncio.Task[Value]
    waiting: int = 0


class Shared(Generic[Value]):
    """Work by key: who asks while it is under way gets the same result, or the same error.

    When all who waited were cancelled, the work is too.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[Value]] = {}

    async def run(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(work()))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            # Over, or wanted by nobody: the next one who asks begins anew.
            over = flight.task.done() or not flight.waiting
            if over and self._flights.get(key) is flight:
                del self._flights[key]
            if not flight.waiting and not flight.task.done():
                flight.task.cancel()
                await asyncio.gather(flight.task, return_exceptions=True)
            # An error holds this frame, and the task the error: no cycle of all who asked.
            del flight
