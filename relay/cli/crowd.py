"""A crowd of viewers in one process: our own WHEP client, each with a port of its own.

``python -m relay.cli.crowd`` is one of several that ``relay watch`` (``watch.py``) has for a
large crowd. It reads lines of JSON: what is asked for, then ``"go"`` once all have joined
everywhere, and ``"stop"`` when it is to end before its time. Its own lines are a ``glance`` a
second, ``joined``, and in the end what was ``told``.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import ssl as tls
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import uvloop

from relay.cli import address, descriptors
from relay.cli.watched import Glance, Seen, Told, glance, summed
from relay.config import WebRtc
from relay.errors import RelayError
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.client import WhepClient
from relay.protocols.webrtc.peer import PeerState

AT_ONCE: Final = 16
"""Viewers that join at the same time: these are measured, not the wait for one another."""
LEAVING: Final = 10.0
"""Seconds in which all have left."""
ASKING: Final = 5.0
"""Seconds to learn from the gateway why viewers were ended."""
CONSENT: Final = 30.0
"""A viewer of a crowd may wait long for its turn here: that ends none."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked for.

    Attributes:
        cacert: a file.
    """

    url: str
    viewers: int = 1
    seconds: float = 10.0
    token: str | None = None
    as_json: bool = False
    insecure: bool = False
    cacert: str | None = None

    def tls(self) -> tls.SSLContext | bool:
        """How the gateway is known; raises ConfigError."""
        return address.tls_of(insecure=self.insecure, cacert=self.cacert)


class Viewer:
    """One of the crowd."""

    def __init__(self) -> None:
        self._asked = 0.0
        self._connected: float | None = None
        self._first: float | None = None
        self._pictures = 0
        self._octets = 0
        self._latest = self._still = 0.0
        self._refusal = ""
        self._client: WhepClient | None = None

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
            self._refusal = str(error) or repr(error)
        else:
            self._connected = time.monotonic() - self._asked

    def _unit(self, unit: AccessUnit) -> None:
        self._octets += len(unit.payload)
        if unit.is_video:
            now = time.monotonic()
            if self._first is None:
                self._first = now - self._asked
            elif now - self._latest > self._still:
                self._still = now - self._latest
            self._latest = now
            self._pictures += 1

    def begin(self) -> None:
        """The time that is measured begins."""
        self._latest, self._still = time.monotonic(), 0.0

    def look(self) -> Seen:
        packets = lost = 0
        why = self._refusal
        if (client := self._client) is not None:
            figures = client.statistics()
            packets, lost = figures.packets, figures.lost
            if client.peer.state is PeerState.CLOSED:
                why = client.peer.close_reason
        still = max(self._still, time.monotonic() - self._latest)
        return Seen(
            *(self._connected, self._first, self._pictures, self._octets, packets, lost, why),
            still=still,
        )

    async def ask_why(self) -> str:
        """Why it was ended, in the gateway's words where it has some; "" where it was not."""
        client = self._client
        if client is None or client.peer.state is not PeerState.CLOSED:
            return self._refusal
        return await client.last_word() or client.peer.close_reason

    async def leave(self) -> None:
        if self._client is not None:
            await self._client.close()


async def watch(
    request: Request,
    ssl: tls.SSLContext | bool,
    *,
    asked: asyncio.Event,
    begin: Callable[[], Awaitable[object]],
    progress: Callable[[Glance], None],
) -> Told:
    """All join, watch for the time that was asked for, and leave.

    Args:
        asked: set when it is to end before its time.
        begin: awaited between joining and the time that is measured.
        progress: called once a second.
    """
    viewers = [Viewer() for _ in range(request.viewers)]
    ending = asyncio.create_task(asked.wait())
    showing = asyncio.create_task(_glances(viewers, progress))
    joining = asyncio.create_task(_join(request, viewers, ssl))
    try:
        await asyncio.wait({ending, joining}, return_when=asyncio.FIRST_COMPLETED)
        await begin()
        for viewer in viewers:
            viewer.begin()
        began, before, used = time.monotonic(), _look(viewers), _cpu()
        await asyncio.wait({ending}, timeout=request.seconds)
        after, span = _look(viewers), time.monotonic() - began
        cpu = (_cpu() - used) / max(span, 0.001)
        return summed(before, await _with_reasons(viewers, after), span, cpu=cpu)
    finally:
        for task in (ending, showing, joining):
            task.cancel()
        await asyncio.wait({ending, showing, joining})
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


async def _with_reasons(viewers: list[Viewer], seen: list[Seen]) -> list[Seen]:
    """Who was ended sees that itself, and asks the gateway why; not all at once, nor for long."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(viewer: Viewer, what: Seen) -> Seen:
        if not what.why:
            return what
        async with places:
            return replace(what, why=await viewer.ask_why() or what.why)

    try:
        async with asyncio.timeout(ASKING):
            return await asyncio.gather(*map(one, viewers, seen))
    except TimeoutError:
        return seen


def _look(viewers: list[Viewer]) -> list[Seen]:
    return [each.look() for each in viewers]


async def _glances(viewers: list[Viewer], progress: Callable[[Glance], None]) -> None:
    before, at = _look(viewers), time.monotonic()
    while True:
        await asyncio.sleep(1)
        after, now = _look(viewers), time.monotonic()
        progress(glance(before, after, now - at))
        before, at = after, now


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# -- one process of several ---------------------------------------------------------------


def _tell(what: str, value: Any = None) -> None:
    print(json.dumps({what: value}), flush=True)


async def _part() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    request = Request(**json.loads(await reader.readline()))
    asked, go = asyncio.Event(), asyncio.Event()

    async def listen() -> None:
        async for line in reader:
            (go if json.loads(line) == "go" else asked).set()
            go.set()
        asked.set()  # who asked is gone
        go.set()

    async def begin() -> None:
        _tell("joined")
        await go.wait()

    listening = asyncio.create_task(listen())
    try:
        told = await watch(
            request,
            request.tls(),
            asked=asked,
            begin=begin,
            progress=lambda seen: _tell("glance", asdict(seen)),
        )
    finally:
        listening.cancel()
        await asyncio.wait({listening})
    _tell("told", told.as_dict())


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for ``relay watch``, which says so
        signal.signal(number, signal.SIG_IGN)
    descriptors.allow_all()
    uvloop.run(_part())


if __name__ == "__main__":
    main()
