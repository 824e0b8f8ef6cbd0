"""Waiting for something that another task brings about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def eventually(check: Callable[[], object], *, timeout: float = 5.0) -> None:
    """Return as soon as ``check()`` is true; TimeoutError when it never is."""
    async with asyncio.timeout(timeout):
        while not check():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.005)
