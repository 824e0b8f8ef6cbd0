"""A crowd of viewers (``viewer.py``) in one process, each with a port of its own.

``python -m relay.cli.crowd`` is one of several that ``relay watch`` (``watch.py``) has for a
large crowd. It reads lines of JSON: what is asked for, then ``"go"`` once all have joined
everywhere, and ``"stop"`` when it is to end before its time. Its own lines are a ``glance`` a
second, ``joined``, how one was ``lost``, and in the end what was ``told``.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import signal
import ssl as tls
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import uvloop

from relay.cli import address, descriptors
from relay.cli.viewer import Viewer
from relay.cli.watched import NOTHING, Glance, Seen, Told, glance, summed

AT_ONCE: Final = 16
"""Viewers that join at the same time: these are measured, not the wait for one another."""
LEAVING: Final = 10.0
"""Seconds in which all have left."""
SOON: Final = 0.2
"""Seconds in which it is noticed that nothing comes any more."""
ASKING: Final = 5.0
"""Seconds to learn from the gateway why viewers were ended."""


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


async def watch(
    request: Request,
    ssl: tls.SSLContext | bool,
    *,
    asked: asyncio.Event,
    begin: Callable[[], Awaitable[object]],
    progress: Callable[[Glance], None],
    on_lost: Callable[[str], None] = lambda _: None,
) -> Told:
    """All join, watch for the time that was asked for, and leave; at once where none is left.

    Args:
        asked: set when it is to end before its time.
        begin: awaited between joining and the time that is measured.
        progress: called once a second, and ``early`` as soon as nothing comes any more.
        on_lost: told at once that a viewer lost its connection, or could not join yet, and why.
    """
    places = asyncio.Semaphore(AT_ONCE)
    url, token = request.url, request.token
    viewers = [Viewer(url, token, ssl, places, on_lost) for _ in range(request.viewers)]
    tasks = {
        (ending := asyncio.create_task(asked.wait())),
        (joining := asyncio.create_task(_join(viewers))),
        asyncio.create_task(_glances(viewers, progress)),
    }
    try:
        await asyncio.wait({ending, joining}, return_when=asyncio.FIRST_COMPLETED)
        staying = asyncio.create_task(_stay(viewers))
        tasks |= {staying, asyncio.create_task(look_after(viewers))}
        await begin()
        for viewer in viewers:
            viewer.begin()
        began, before, used = time.monotonic(), _look(viewers), _cpu()
        await asyncio.wait(
            {ending, staying}, timeout=request.seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if staying.done():
            staying.result()
        after, span = _look(viewers), time.monotonic() - began
        cpu = (_cpu() - used) / max(span, 0.001)
        return summed(before, await _with_reasons(viewers, after), span, cpu=cpu)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        async with asyncio.timeout(LEAVING):
            await asyncio.gather(*(each.leave() for each in viewers))


async def _join(viewers: Sequence[Viewer]) -> None:
    async with asyncio.TaskGroup() as group:
        for viewer in viewers:
            group.create_task(viewer.join())


async def _stay(viewers: Sequence[Viewer]) -> None:
    """As long as there is one that is connected, or may be again."""
    async with asyncio.TaskGroup() as group:
        for viewer in viewers:
            group.create_task(viewer.stay())


async def look_after(viewers: Sequence[Viewer]) -> None:
    """Have those leave that hear nothing any more, where the gateway is gone.

    One of them asks, and the others only where it is: so many at once would be a load.
    """
    while True:
        await asyncio.sleep(1)
        silent = [each for each in viewers if each.silent]
        if silent and await random.choice(silent).check():
            await asyncio.gather(*(each.check() for each in silent))


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
    known = False
    while True:
        while (left := at + 1 - time.monotonic()) > 0:
            await asyncio.sleep(min(left, SOON))
            silent = _hear_nothing(viewers)
            if silent and not known:
                seen = glance(before, _look(viewers), time.monotonic() - at)
                progress(replace(seen, early=True))
            known = silent
        after, now = _look(viewers), time.monotonic()
        progress(glance(before, after, now - at))
        before, at = after, now


def _hear_nothing(viewers: list[Viewer]) -> bool:
    """Whether there are any that are connected, and nothing comes to them."""
    silent = False
    for each in viewers:
        if each.there:
            if each.unheard < NOTHING:
                return False
            silent = True
    return silent


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
            on_lost=lambda why: _tell("lost", why),
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
