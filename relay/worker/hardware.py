"""The graphics cards of this machine, asked of the driver's own tool."""

from __future__ import annotations

import asyncio
import logging
import shutil
from typing import Final

from relay.rpc.hardware import Gpu

log = logging.getLogger(__name__)

TOOL: Final = "nvidia-smi"
FIELDS: Final = "index,uuid,name,compute_cap,memory.free,memory.total"
WITHIN: Final = 5.0
MIB: Final = 1 << 20


async def find_gpus() -> dict[str, Gpu]:
    """Index to card; empty without the tool, or when it fails."""
    tool = shutil.which(TOOL)
    if tool is None:
        return {}
    process = await asyncio.create_subprocess_exec(
        tool,
        f"--query-gpu={FIELDS}",
        "--format=csv,noheader,nounits",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(WITHIN):
            text, _ = await process.communicate()
    except TimeoutError:
        log.warning("%s did not answer in %.0f s", TOOL, WITHIN)
        process.kill()
        await process.wait()
        return {}
    return parse_gpus(text.decode("utf-8", "replace"))


def parse_gpus(text: str) -> dict[str, Gpu]:
    """The tool's lines; one that is not as expected is left out."""
    gpus: dict[str, Gpu] = {}
    for line in text.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) != FIELDS.count(",") + 1:
            continue
        index, uuid, name, capability, free, total = values
        major, _, minor = capability.partition(".")
        numbers = (major, minor, free, total)
        if not all(number.isdecimal() for number in numbers):
            continue
        gpus[index] = Gpu(uuid, name, int(major), int(minor), int(free) * MIB, int(total) * MIB)
    return gpus
