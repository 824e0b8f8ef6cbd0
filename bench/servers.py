"""Starts a bench server in a process of its own and measures what it costs."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
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
async def server(module: str, *words: str) -> AsyncIterator[Server]:
    """``python -m module words``, for as long as the block runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module, *words),
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


@asynccontextmanager
async def apart(module: str, *words: str) -> AsyncIterator[Server]:
    """The same on a core of its own; this process is on another one meanwhile."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})  # the server inherits it, with all its threads
    try:
        async with server(module, *words) as serving:
            os.sched_setaffinity(0, {cores[-1]})
            yield serving
    finally:
        os.sched_setaffinity(0, cores)


async def cpu_share(process: psutil.Process, seconds: float) -> float:
    """CPU-seconds a second of one process, all its threads, over the next ``seconds``."""
    before = cpu_seconds(process)
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(seconds)
    return (cpu_seconds(process) - before) / (asyncio.get_running_loop().time() - began)


def cpu_seconds(process: psutil.Process) -> float:
    """To the nanosecond where the kernel tells it; its usual clock ticks 100 times a second."""
    times = [
        int(file.read_text().split()[0])
        for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    ]
    if times:
        return sum(times) / 1e9
    used = process.cpu_times()
    return float(used.user + used.system)
