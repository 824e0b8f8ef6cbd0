"""A whole network with many streams of one viewer each, and what its gateway costs."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import psutil

from bench.servers import LOOPBACK, cpu_share
from bench.source import pictures
from relay.cli.network import running_network
from relay.cli.pace import pace
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.client import WhepClient, WhipClient

LEAST: Final = 0.97
"""Share of the pictures sent that must arrive, until a figure means something."""
SETTLED: Final = 2.0
LATEST: Final = 20.0
"""Seconds until each stream has a picture."""


class Count:
    """Viewers' pictures, to see that something was really delivered."""

    def __init__(self) -> None:
        self.pictures = 0

    def unit(self, unit: AccessUnit) -> None:
        self.pictures += unit.is_video


def check(name: str, came: int, expected: float) -> None:
    """
    Raises:
        RuntimeError: too little arrived.
    """
    if came < LEAST * expected:
        raise RuntimeError(f"{name}: only {came} of {expected:.0f} pictures arrived")


@asynccontextmanager
async def publishing(
    url: str, units: Sequence[AccessUnit], *, after: float = 0.0
) -> AsyncIterator[None]:
    """One publisher; its first picture leaves ``after`` seconds from now."""
    whip = await WhipClient.connect(url, audio=False, settings=LOOPBACK)

    async def send() -> None:
        await asyncio.sleep(after)
        await pace(pictures(units), whip.send)

    sending = asyncio.create_task(send())
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await whip.close()


@asynccontextmanager
async def watching(url: str, count: Count, viewers: int = 1) -> AsyncIterator[Count]:
    async with AsyncExitStack() as stack:
        for _ in range(viewers):
            client = await WhepClient.connect(
                url, on_unit=count.unit, audio=False, settings=LOOPBACK
            )
            stack.push_async_callback(client.close)
        yield count


async def gateway(
    units: Sequence[AccessUnit], seconds: float, streams: int, *, checkout: Path | None = None
) -> float:
    """CPU-seconds a second of a gateway with that many streams through ``echo``.

    Args:
        checkout: the relay that is started; None: this one.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = {"worker.slots": streams, "orchestrator.data_dir": f"{folder}/node"}
        # ``python -m relay`` takes the package of the folder that it is started in.
        with contextlib.chdir(checkout or Path.cwd()):
            network = running_network(Path(folder) / "log", settings)
            ready = await network.__aenter__()
        try:
            base, process = ready["gateway"]["url"], psutil.Process(ready["gateway"]["pid"])
            counts = [Count() for _ in range(streams)]
            async with AsyncExitStack() as stack:
                for number in range(streams):
                    whip = f"{base}/whip/bench-{number}?pipeline=echo"
                    # As cameras that know nothing of one another: over a frame's time.
                    apart = number / streams / 30
                    await stack.enter_async_context(publishing(whip, units, after=apart))
                    whep = f"{base}/whep/bench-{number}"
                    await stack.enter_async_context(watching(whep, counts[number]))
                async with asyncio.timeout(LATEST):
                    while not all(count.pictures for count in counts):  # noqa: ASYNC110
                        await asyncio.sleep(0.1)
                await asyncio.sleep(SETTLED)
                before = sum(count.pictures for count in counts)
                share = await cpu_share(process, seconds)
                came = sum(count.pictures for count in counts) - before
            check("gateway", came, streams * seconds * 30)
            return share
        finally:
            await network.__aexit__(None, None, None)
