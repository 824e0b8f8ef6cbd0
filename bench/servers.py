"""Starts a bench server in a process of its own and measures what it costs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import psutil

from relay.config import WebRtc

LOOPBACK: Final = WebRtc(host="127.0.0.1", port=0)
"""Clients of a bench stay on loopback too: plain aioice gives up on any other address first."""


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    process: psutil.Process


@asynccontextmanager
async def server(module: str, kind: str) -> AsyncIterator[Server]:
    """``python -m module kind``, for as long as the block runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module, kind),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        url = (await process.stdout.readline()).decode().strip()
        yield Server(url, psutil.Process(process.pid))
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()


async def cpu_share(process: psutil.Process, seconds: float) -> float:
    """CPU-seconds a second of one process over the next ``seconds``."""
    before = process.cpu_times()
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(seconds)
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    return used / (asyncio.get_running_loop().time() - began)
