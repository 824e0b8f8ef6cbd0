"""Keeps the three roles of ``relay up`` running, and ends them all."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from relay.cli.child import Child, ChildFailed, command_of
from relay.cli.role import StopSignals
from relay.cli.wiring import BEFORE, Address, wire
from relay.config import Settings

BACKOFF: Final = (0.1, 0.3, 1.0, 2.0, 5.0)
"""Seconds before each start of a role that died, the last one again and again."""
MAX_RESTARTS: Final = 10
"""Ends in a row until we give up; a role that was ready for STEADY seconds is counted anew."""
STEADY: Final = 10.0
# Asked to end in this order, each with so many seconds: the gateway tells its streams
# while its orchestrator is still there to hear that they end.
GOODBYE: Final = (("gateway", 1.7), ("orchestrator", 0.6), ("worker", 0.6))

log = logging.getLogger(__name__)


class Supervisor:
    """
    Args:
        on_ready: called once, when all roles are ready.
        on_log: called with a role and a line that it wrote.
        command: what a role is started by.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_ready: Callable[[Mapping[str, Address]], None],
        on_log: Callable[[str, str], None],
        command: Callable[[str, int], list[str]] = command_of,
    ) -> None:
        self._settings = settings
        self._on_ready = on_ready
        self._on_log = on_log
        self._command = command
        self._children: dict[str, Child] = {}
        self._addresses: dict[str, Address] = {}
        self._ready: dict[str, asyncio.Event] = {role: asyncio.Event() for role in BEFORE}
        self._ending = False

    async def run(self) -> None:
        """Return after a signal has ended everything.

        Raises:
            ChildFailed: a role that could not start, or not start again.
        """
        signals = StopSignals(at_once=self._kill)
        asked = asyncio.create_task(signals.asked.wait())
        keepers = {asyncio.create_task(self._keep(role), name=role) for role in BEFORE}
        all_ready = asyncio.create_task(self._all_ready())
        try:
            enders = {asked, *keepers}
            await asyncio.wait({all_ready, *enders}, return_when=asyncio.FIRST_COMPLETED)
            if all_ready.done():
                self._on_ready(self._addresses)
                await asyncio.wait(enders, return_when=asyncio.FIRST_COMPLETED)
            for keeper in keepers:
                if keeper.done():
                    keeper.result()  # a keeper ends only by failing
        finally:
            self._ending = True
            for task in (asked, all_ready, *keepers):
                task.cancel()
            await self._end()
            await asyncio.gather(asked, all_ready, *keepers, return_exceptions=True)

    async def _all_ready(self) -> None:
        for event in self._ready.values():
            await event.wait()

    async def _keep(self, role: str) -> None:
        failures = 0
        while True:
            child = Child(role, self._on_log, self._command)
            self._children[role] = child
            try:
                steady = await self._once(role, child)
            except ChildFailed as failure:
                if not self._ready[role].is_set():
                    raise
                steady = False
                log.error("%s", failure)
            finally:
                if not self._ending:  # else _end gives it its time
                    await child.close()
            failures = 0 if steady else failures + 1
            if failures > MAX_RESTARTS:
                raise ChildFailed(f"{role} ended {failures} times in a row; giving up")
            await asyncio.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])

    async def _once(self, role: str, child: Child) -> bool:
        """One life of a role; returns whether it was a steady one."""
        await child.spawn()
        if before := BEFORE[role]:
            await self._ready[before].wait()
        self._addresses[role] = await child.start(wire(role, self._settings, self._addresses))
        await child.until_ready()
        if self._ready[role].is_set():
            log.warning("%s is back (pid %d, %s)", role, child.pid, self._addresses[role].url)
        self._ready[role].set()
        began = time.monotonic()
        how = await child.wait()
        if await child.ended_as_asked():
            log.info("%s ended as it was asked to; starting it again", role)
        else:
            log.error("%s %s; starting it again", role, how)
        return time.monotonic() - began >= STEADY

    async def _end(self) -> None:
        for role, seconds in GOODBYE:
            child = self._children.get(role)
            if child is None:
                continue
            child.terminate()
            waiting = asyncio.create_task(child.wait())
            await asyncio.wait({waiting}, timeout=seconds)
            waiting.cancel()
        for child in self._children.values():
            await child.close()

    def _kill(self) -> None:
        for child in self._children.values():
            child.kill()
