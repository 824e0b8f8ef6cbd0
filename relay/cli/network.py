"""A network of one's own, on free ports, for as long as a block runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from relay.errors import PeerError, PeerTimeout

START_BOUND: Final = 60.0
END_BOUND: Final = 5.0
"""Seconds that one which did not start has to end."""
LAST_LINES: Final = 8
FREE_PORTS: Final[Mapping[str, Any]] = {
    "gateway.port": 0,
    "gateway.webrtc.port": 0,
    "orchestrator.port": 0,
    "worker.port": 0,
}


@asynccontextmanager
async def running_network(
    log: Path, settings: Mapping[str, Any] | None = None
) -> AsyncIterator[Mapping[str, Any]]:
    """``relay up`` in processes of its own; it has ended when the block has.

    Args:
        log: the file that what it says is written to.
        settings: keys as ``worker.slots``.

    Yields:
        What ``relay up --json`` told: each role's ``url`` and ``pid``, and the addresses.

    Raises:
        PeerTimeout, PeerError: it did not start; the message has its last lines.
    """
    chosen = {**FREE_PORTS, **(settings or {})}
    words = [f"--set={key}={json.dumps(value)}" for key, value in chosen.items()]
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "relay", "up", "--json", *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        yield await _ready(process, log)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _ready(process: asyncio.subprocess.Process, log: Path) -> Mapping[str, Any]:
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_BOUND)
    except TimeoutError:
        raise PeerTimeout(f"the network was not ready in {START_BOUND:.0f} s; see {log}") from None
    ready: Mapping[str, Any] = json.loads(line or "{}")
    if not ready or "error" in ready:
        with contextlib.suppress(TimeoutError):  # its last words may come after that line
            await asyncio.wait_for(process.wait(), END_BOUND)
        raise PeerError(f"the network did not start; {log} ends:\n{_last_lines(log)}")
    return ready


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:])
