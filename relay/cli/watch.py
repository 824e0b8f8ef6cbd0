"""``relay watch URL --viewers N``: viewers of one stream, to see what a gateway bears.

All of them are in this one process, each with a port of its own, as our own WHEP client has it.
"""

from __future__ import annotations

import asyncio
import json
import resource
import ssl as tls
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from relay.cli import address, descriptors
from relay.cli.lookout import Place, state_now
from relay.cli.role import StopSignals
from relay.cli.watched import Seen, Told, in_figures, summed, table
from relay.config import WebRtc
from relay.errors import PeerError, RelayError
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.client import WhepClient
from relay.protocols.webrtc.peer import PeerState

MAX_VIEWERS: Final = 5000
AT_ONCE: Final = 16
"""Viewers that join at the same time: these are measured, not the wait for one another."""
LEAVING: Final = 10.0
"""Seconds in which all have left."""
CONSENT: Final = 30.0
"""A viewer of a crowd may wait long for its turn here: that ends none."""
QUIET: Final = 10
"""Seconds of a line each; then one in five."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked for."""

    url: str
    viewers: int = 1
    seconds: float = 10.0
    token: str | None = None
    as_json: bool = False
    insecure: bool = False
    cacert: Path | None = None


class Viewer:
    """One of the crowd."""

    def __init__(self) -> None:
        self.connected: float | None = None
        self.first: float | None = None
        self.pictures = 0
        self.octets = 0
        self.why = ""
        self._asked = 0.0
        self._client: WhepClient | None = None
        self._counted = (0, 0)

    async def join(self, request: Request, ssl: tls.SSLContext | bool) -> None:
        host = "::" if "//[" in request.url else "0.0.0.0"
        self._asked = time.monotonic()
        try:
            self._client = await WhepClient.connect(
                request.url,
                on_unit=self._unit,
                token=request.token,
                settings=WebRtc(host=host, port=0, consent_timeout=CONSENT),
                ssl=ssl,
            )
        except (RelayError, OSError) as error:
            self.why = str(error) or repr(error)
        else:
            self.connected = time.monotonic() - self._asked

    def _unit(self, unit: AccessUnit) -> None:
        self.octets += len(unit.payload)
        if unit.is_video:
            if self.first is None:
                self.first = time.monotonic() - self._asked
            self.pictures += 1

    def look(self) -> Seen:
        client = self._client
        ended = ""
        if client is not None:
            figures = client.statistics()
            self._counted = figures.packets, figures.lost
            if client.peer.state is PeerState.CLOSED:
                ended = client.peer.close_reason
        packets, lost = self._counted
        return Seen(
            *(self.connected, self.first, self.pictures, self.octets, packets, lost),
            why=self.why or ended,
        )

    async def leave(self) -> None:
        if self._client is not None:
            await self._client.close()


def run(request: Request) -> int:
    """Watch, and tell what was seen; 0 where every viewer was served to the end.

    Raises:
        ConfigError: no http(s) address, or no certificates.
        PeerError: nobody could join, with the reason.
    """
    address.check(request.url)
    ssl = address.tls_of(insecure=request.insecure, cacert=request.cacert)
    descriptors.allow_all()
    told = uvloop.run(watch(request, ssl))
    if request.as_json:
        print(json.dumps(in_figures(told)))
    else:
        Console(width=None if sys.stdout.isatty() else 100).print(table(told))
    if told.why:
        print(f"error: {told.why}", file=sys.stderr, flush=True)
    return 1 if told.why else 0


async def watch(request: Request, ssl: tls.SSLContext | bool = True) -> Told:
    """All join, watch for the time that was asked for, and leave; raises as ``run``."""
    signals = StopSignals()
    viewers = [Viewer() for _ in range(request.viewers)]
    progress = _Progress(viewers, quiet=request.as_json)
    asked = asyncio.create_task(signals.asked.wait())
    showing = asyncio.create_task(progress.show())
    joining = asyncio.create_task(_join(request, viewers, ssl))
    try:
        await asyncio.wait({asked, joining}, return_when=asyncio.FIRST_COMPLETED)
        began, before, used = time.monotonic(), [each.look() for each in viewers], _cpu()
        await asyncio.wait({asked}, timeout=request.seconds)
        after, span = [each.look() for each in viewers], time.monotonic() - began
        told = summed(before, after, span, cpu=(_cpu() - used) / max(span, 0.001))
        if told.joined == 0 and not asked.done():
            raise PeerError(f"nobody could join: {told.reasons.most_common(1)[0][0]}")
        return told.with_state(await _state(request, ssl) if told.without_picture else "")
    finally:
        for task in (asked, showing, joining):
            task.cancel()
        await asyncio.wait({asked, showing, joining})
        async with asyncio.timeout(LEAVING):
            await asyncio.gather(*(each.leave() for each in viewers))


async def _join(request: Request, viewers: list[Viewer], ssl: tls.SSLContext | bool) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(viewer: Viewer) -> None:
        async with places:
            await viewer.join(request, ssl)

    async with asyncio.TaskGroup() as group:
        for viewer in viewers:
            group.create_task(one(viewer))


async def _state(request: Request, ssl: tls.SSLContext | bool) -> str:
    """What a gateway of ours says of the stream."""
    place = Place.of(request.url)
    return "" if place is None else await state_now(place, token=request.token, ssl=ssl)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class _Progress:
    """A line a second at first, then one in five."""

    def __init__(self, viewers: list[Viewer], *, quiet: bool) -> None:
        self._viewers = viewers
        self._quiet = quiet

    async def show(self) -> None:
        before, at = [each.look() for each in self._viewers], time.monotonic()
        for second in range(1, 1 << 31):
            await asyncio.sleep(1)
            if self._quiet or (second > QUIET and second % 5):
                continue
            after, now = [each.look() for each in self._viewers], time.monotonic()
            told = summed(before, after, now - at, cpu=0.0)
            ended = sum(told.reasons.values())
            print(
                f"{second} s: {told.joined} of {len(after)} connected, {ended} lost, "
                f"{told.rate:.0f} pictures/s, {told.bitrate / 1e6:.1f} Mbit/s",
                file=sys.stderr,
                flush=True,
            )
            before, at = after, now
