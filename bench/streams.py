"""A whole network with many streams of one viewer each, and what its gateway costs."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from bench.servers import LOOPBACK, cpu_share
from bench.source import endless, has_sound
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
    """What viewers got, to see that something was really delivered."""

    def __init__(self) -> None:
        self.pictures = self.sounds = 0

    def unit(self, unit: AccessUnit) -> None:
        if unit.is_video:
            self.pictures += 1
        else:
            self.sounds += 1


def check(name: str, came: int, expected: float, what: str = "pictures") -> None:
    """
    Raises:
        RuntimeError: too little arrived.
    """
    if came < LEAST * expected:
        raise RuntimeError(f"{name}: only {came} of {expected:.0f} {what} arrived")


@asynccontextmanager
async def publishing(
    url: str, units: Sequence[AccessUnit], *, after: float = 0.0
) -> AsyncIterator[None]:
    """One publisher, with sound where the clip has it; its first picture leaves ``after``
    seconds from now."""
    whip = await WhipClient.connect(url, audio=has_sound(units), settings=LOOPBACK)

    async def send() -> None:
        await asyncio.sleep(after)
        await pace(endless(units), whip.send)

    sending = asyncio.create_task(send())
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await whip.close()


@asynccontextmanager
async def watching(
    url: str, count: Count, viewers: int = 1, *, sound: bool = True
) -> AsyncIterator[Count]:
    async with AsyncExitStack() as stack:
        for _ in range(viewers):
            client = await WhepClient.connect(
                url, on_unit=count.unit, audio=sound, settings=LOOPBACK
            )
            stack.push_async_callback(client.close)
        yield count


async def gateway(
    units: Sequence[AccessUnit],
    seconds: float,
    streams: int,
    *,
    checkout: Path | None = None,
    more: Mapping[str, Any] | None = None,
) -> tuple[float, float]:
    """CPU-seconds a second of a gateway with that many streams through ``echo``: of its own
    process, and of others that it has started.

    Args:
        checkout: the relay that is started; None: this one.
        more: settings.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "worker.slots": streams,
            "orchestrator.data_dir": f"{folder}/node",
            **(more or {}),
        }
        # ``python -m relay`` takes the package of the folder that it is started in.
        with contextlib.chdir(checkout or Path.cwd()):
            network = running_network(Path(folder) / "log", settings)
            ready = await network.__aenter__()
        try:
            base, process = ready["gateway"]["url"], psutil.Process(ready["gateway"]["pid"])
            if more:
                await asyncio.sleep(SETTLED)  # what else is to be there has started
            counts = [Count() for _ in range(streams)]
            async with AsyncExitStack() as stack:
                for number in range(streams):
                    whip = f"{base}/whip/bench-{number}?pipeline=echo"
                    # As cameras that know nothing of one another: over a frame's time.
                    apart = number / streams / 30
                    await stack.enter_async_context(publishing(whip, units, after=apart))
                    whep = f"{base}/whep/bench-{number}"
                    viewer = watching(whep, counts[number], sound=has_sound(units))
                    await stack.enter_async_context(viewer)
                async with asyncio.timeout(LATEST):
                    while not all(count.pictures for count in counts):  # noqa: ASYNC110
                        await asyncio.sleep(0.1)
                await asyncio.sleep(SETTLED)
                before = sum(count.pictures for count in counts)
                heard = sum(count.sounds for count in counts)
                shares = await asyncio.gather(
                    *(cpu_share(each, seconds) for each in (process, *process.children()))
                )
                came = sum(count.pictures for count in counts) - before
                heard = sum(count.sounds for count in counts) - heard
            check("gateway", came, streams * seconds * 30)
            if has_sound(units):
                check("gateway", heard, streams * seconds * 50, "packets of sound")
            return shares[0], sum(shares[1:])
        finally:
            await network.__aexit__(None, None, None)
