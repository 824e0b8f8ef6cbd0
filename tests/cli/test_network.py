"""A network of one's own that does not start."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from relay.cli import network
from relay.errors import PeerError

LATE = """
import json, sys, time
print(json.dumps({"error": "no"}), flush=True)
time.sleep(0.3)
print("port 1 is in use", file=sys.stderr)
"""


async def test_its_last_words_are_told_though_they_come_after_the_line_for_programs(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", LATE), stdout=asyncio.subprocess.PIPE, stderr=errors
        )
    with pytest.raises(PeerError, match="port 1 is in use"):
        await network._ready(process, log)
    assert await process.wait() == 0
