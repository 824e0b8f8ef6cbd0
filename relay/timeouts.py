"""Mends ``asyncio.timeout`` of Python 3.11.0 to 3.11.2, which Debian 12 has.

There one that expires in a task that was cancelled before, as in what it does last, raises
``CancelledError`` in place of ``TimeoutError`` (https://github.com/python/cpython/issues/102780):
a process that did not end in time is then not killed, nor is done what else stands under
``except``.
"""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import Any, Final

MENDED: Final = (3, 11, 3)
_BEFORE: Final = "_cancelling_before"


def mend() -> None:
    """Once a process, before any timeout; later Pythons are left alone."""
    if sys.version_info >= MENDED:
        return
    kind: Any = asyncio.Timeout
    enter, leave = kind.__aenter__, kind.__aexit__

    async def entered(self: Any) -> Any:
        timeout = await enter(self)
        setattr(self, _BEFORE, _cancelling())
        return timeout

    async def left(
        self: Any,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        told: bool | None = await leave(self, error_type, error, trace)
        own = self.expired() and error_type is asyncio.CancelledError
        if own and _cancelling() <= getattr(self, _BEFORE):
            raise TimeoutError from error
        return told

    kind.__aenter__, kind.__aexit__ = entered, left


def _cancelling() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
