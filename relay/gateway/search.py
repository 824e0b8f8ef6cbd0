"""Who could serve a stream, asked while its publisher still connects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final

from relay.market.selector import Choice

NEW_FOR: Final = 2.0
"""Seconds from its begin in which what was found says who could serve the stream now."""


class Search:
    """One round of questions, begun at once; what it finds is had once.

    Args:
        asking: raises Unavailable when it finds nobody.
        under_way: has this search in it until it is over.
    """

    def __init__(self, asking: Coroutine[Any, Any, list[Choice]], under_way: set[Search]) -> None:
        self._began = time.monotonic()
        task = asyncio.create_task(asking)
        self._task: asyncio.Task[list[Choice]] | None = task
        under_way.add(self)
        task.add_done_callback(_looked_at)
        task.add_done_callback(lambda _: under_way.discard(self))

    @property
    def new(self) -> bool:
        """What it finds may still be had, and is not that there was nobody."""
        task = self._task
        if task is None or time.monotonic() - self._began >= NEW_FOR:
            return False
        return not task.done() or not (task.cancelled() or task.exception())

    async def found(self) -> list[Choice]:
        """What the questions raise is raised here."""
        task, self._task = self._task, None
        assert task is not None
        try:
            return await task
        finally:
            del task  # An error holds this frame, and the task the error.

    def close(self) -> None:
        """Nobody waits for it any more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None


def _looked_at(task: asyncio.Task[list[Choice]]) -> None:
    """An error that nobody waits for is none: the stream did not begin, or asks anew."""
    if not task.cancelled():
        task.exception()
