"""A streamer and a viewer of a live stream, with what the viewer saw and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import numpy as np
import orjson

from relay.cli import clip
from relay.cli.pace import endless, pace
from relay.config import WebRtc
from relay.errors import ParseError
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.client import WhepClient, WhipClient
from relay.worker.codec import Decoder
from tests.network import eventually

LOOPBACK: Final = WebRtc(host="127.0.0.1", port=0)
PURE: Final = LOOPBACK.model_copy(update={"native": False})
"""Python sees each packet, as ``tests.lossy`` asks."""
SECONDS: Final = 8


@cache
def small_clip(width: int = 640, height: int = 360) -> list[AccessUnit]:
    """Eight seconds of the numbered clip, small enough for many scenarios."""
    return clip.encoded(SECONDS, width=width, height=height, bitrate=600_000)


@dataclass(slots=True)
class Viewer:
    """What reached one WHEP viewer."""

    video: list[tuple[float, AccessUnit]] = field(default_factory=list)
    audio: list[tuple[float, AccessUnit]] = field(default_factory=list)
    client: WhepClient | None = None
    asked: float = 0.0

    def unit(self, unit: AccessUnit) -> None:
        (self.video if unit.is_video else self.audio).append((time.monotonic(), unit))

    def pictures(self, since: float = 0.0) -> Iterator[tuple[float, np.ndarray[Any, Any]]]:
        """Decoded, RGB, with their arrival; from the first one, since decoding needs it."""
        decoder = Decoder()
        for arrived, unit in list(self.video):
            try:
                decoded = decoder.decode(unit)
            except ParseError:
                continue
            for picture in decoded:
                if arrived >= since:
                    yield arrived, picture.to_array("rgb24", picture.size)

    def gap(self, since: float, *, audio: bool = False) -> float:
        """The longest time without a unit after ``since``, up to the last one."""
        times = [t for t, _ in (self.audio if audio else self.video) if t >= since - 0.5]
        return max((b - a for a, b in pairwise(times)), default=float("inf"))

    async def sees(self, count: int = 1, *, after: float = 0.0, within: float = 15.0) -> float:
        """Wait for ``count`` pictures after a moment; returns when the last of them came."""

        def enough() -> float | None:
            times = [t for t, _ in self.video if t > after]
            return times[count - 1] if len(times) >= count else None

        found = await eventually(enough, within, every=0.01)
        assert found is not None
        return float(found)


@asynccontextmanager
async def publishing(
    url: str,
    units: list[AccessUnit] | None = None,
    *,
    model: str | None = None,
    params: dict[str, Any] | None = None,
    token: str | None = None,
) -> AsyncIterator[WhipClient]:
    """A streamer that sends the clip over and over while the block runs."""
    chosen = units if units is not None else small_clip()
    query = {"pipeline": model} if model else {}
    if params:
        query["params"] = orjson.dumps(params).decode()
    address = f"{url}?{urlencode(query)}" if query else url
    whip = await WhipClient.connect(address, token=token, settings=LOOPBACK)
    sending = asyncio.create_task(pace(endless(lambda: chosen), whip.send))
    try:
        yield whip
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await whip.close()


@asynccontextmanager
async def watching(url: str, settings: WebRtc = LOOPBACK) -> AsyncIterator[Viewer]:
    viewer = Viewer(asked=time.monotonic())
    viewer.client = await WhepClient.connect(url, on_unit=viewer.unit, settings=settings)
    try:
        yield viewer
    finally:
        await viewer.client.close()


async def status(base: str, name: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(f"{base}/v1/streams/{name}") as answer:
        assert answer.status == 200, await answer.text()
        body: dict[str, Any] = await answer.json()
        return body


async def reaches(base: str, name: str, state: str, within: float = 15.0) -> dict[str, Any]:
    """Wait until the stream is in a state; returns its status then."""

    async def there() -> dict[str, Any] | None:
        now = await status(base, name)
        return now if now["state"] == state else None

    found = await eventually(there, within)
    return dict(found or {})
