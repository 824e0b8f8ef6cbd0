"""Run one role in this process until a signal: start, say ready, drain, stop."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NoReturn, Protocol, TypeVar

import uvloop

from relay import memory
from relay.cli import census, descriptors, logs
from relay.cli.lifeline import ChildLine
from relay.config import Settings
from relay.errors import ConfigError, RelayError
from relay.rpc import records

SUPERVISED_DRAIN: Final = 0.3
"""Seconds to tell streams and jobs, where ``relay up`` ends within three: what a gateway has beyond
these it needs to tell its viewers, some milliseconds each."""
STOP_BOUND: Final = 5.0

log = logging.getLogger(__name__)

T = TypeVar("T")


class Role(Protocol):
    """What the three nodes look like from here."""

    drain_timeout: float

    async def start(self) -> Mapping[str, Any]:
        """Listen; returns the addresses, ``url`` among them."""

    async def ready(self) -> Mapping[str, Any]:
        """Return once work can be taken; with what more there is to tell."""

    async def drain(self, deadline: float) -> None:
        """Take nothing new and wait for what runs, until ``deadline`` (monotonic)."""

    async def stop(self) -> None: ...


class StopSignals:
    """SIGTERM and SIGINT: the first asks to end, the last ends the process where it stands.

    Attributes:
        asked: by the first.
        hurried: by the second.

    Args:
        at_once: called before that end, to take others along.
        last: which of them that is; None where it is not for signals. Whoever stops a whole group
            of processes, as systemd does, asks a role, and so does ``relay up``, which ends it in
            time anyway.
    """

    def __init__(self, at_once: Callable[[], None] | None = None, *, last: int | None = 2) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()
        self._at_once = at_once
        self._last = last
        self._count = 0
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ask)

    def ask(self) -> None:
        self._count += 1
        if self._last is None:
            self.asked.set()
        elif self._count < self._last:
            (self.hurried if self.asked.is_set() else self.asked).set()
        else:
            if self._at_once is not None:
                self._at_once()
            os._exit(1)


def run(
    name: str,
    make: Callable[[Settings], Role],
    settings: Settings,
    *,
    line: ChildLine | None,
    on_ready: Callable[[Mapping[str, Any]], str] = json.dumps,
) -> int:
    """Run a role to its end and return the exit code.

    Args:
        line: to ``relay up``, when the role runs under it: which tells why one did not start.
        on_ready: what a role that runs alone prints once it is ready, made of its addresses.
    """
    logs.configure(settings.log, name)
    memory.keep_trimmed()
    descriptors.allow_all()
    records.read_by_record()

    started = False

    def tell(message: Mapping[str, Any]) -> None:
        nonlocal started
        started = started or "ready" in message
        if line is not None:
            line.send(message)
        elif "ready" in message:
            told = {key: value for key, value in message.items() if key != "ready"}
            print(on_ready(told), flush=True)

    try:
        uvloop.run(_live(name, make(settings), tell, line))
    except (RelayError, OSError) as error:
        code = 2 if isinstance(error, ConfigError) else 1
        tell({"failed": str(error) or repr(error), "code": code})
        if line is None or started:
            raise
        return code
    return 0


def leave(code: int) -> NoReturn:
    """End the process without taking the interpreter apart, which takes most of a second.

    Everything of ours has been closed by then.
    """
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


async def _live(
    name: str,
    role: Role,
    tell: Callable[[Mapping[str, Any]], None],
    line: ChildLine | None,
) -> None:
    signals = StopSignals(last=3 if line is None else None)
    census.install()
    asked = asyncio.create_task(signals.asked.wait())
    hurried = asyncio.create_task(signals.hurried.wait())
    orphaned = asyncio.create_task(line.ended() if line else asyncio.Event().wait())
    giving = asyncio.create_task(memory.Giver().run(), name="memory")
    try:
        addresses = await _unless({asked, orphaned}, role.start())
        if addresses is None:
            return
        told = {"role": name, "pid": os.getpid(), **addresses}
        tell({"listening": told})
        more = await _unless({asked, orphaned}, role.ready())
        if more is None:
            return
        memory.settle()
        # Under ``relay up`` the others are still starting: what is missing says nothing.
        tell({"ready": True, **told, **(more if line is None else {})})
        await asyncio.wait({asked, orphaned}, return_when=asyncio.FIRST_COMPLETED)
        tell({"asked": True})
        seconds = role.drain_timeout if line is None else min(SUPERVISED_DRAIN, role.drain_timeout)
        log.info("%s: asked to end; draining for at most %g s", name, seconds)
        await _unless({hurried}, role.drain(time.monotonic() + seconds))
        if signals.hurried.is_set():
            log.info("%s: asked again: what runs is not waited for", name)
    finally:
        for task in (asked, hurried, orphaned, giving):
            task.cancel()
        async with asyncio.timeout(STOP_BOUND):
            await role.stop()
        log.info("%s: ended", name)


async def _unless(enders: set[asyncio.Task[Any]], work: Awaitable[T]) -> T | None:
    """The work's answer, or None (and the work cancelled) when an ender comes first."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task, *enders}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait({task})
    return None
