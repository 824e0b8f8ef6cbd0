"""Work that nobody waits for while its owner goes on, and the owner's end does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class Errands:
    """What is begun here is bounded in time by itself.

    Args:
        owner: for the log.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        self.keep(asyncio.create_task(work))

    def keep(self, task: asyncio.Task[Any]) -> None:
        """It is under way already."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def idle(self) -> bool:
        return not self._tasks

    async def finish(self, within: float | None = None) -> None:
        """Wait for all, at most so many seconds; then they are cut short."""
        tasks = [*self._tasks]
        if not tasks:
            return
        try:
            await asyncio.wait(tasks, timeout=within)
        finally:
            for task in tasks:
                if not task.done():
                    log.warning("%s: %s did not end in time", self._owner, task.get_name())
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
