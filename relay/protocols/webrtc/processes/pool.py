"""Processes of one kind beside the gateway's own.

A peer is placed when its offer comes, and stays where it is. Nobody waits for a process to
start: until then the others serve.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar

from prometheus_client import Counter

from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.processes.load import INTERVAL, Meter
from relay.protocols.webrtc.processes.messages import Configure
from relay.protocols.webrtc.processes.orphans import Orphans
from relay.protocols.webrtc.processes.placement import FEW
from relay.protocols.webrtc.processes.process import (
    LEAVE_WITHIN,
    MediaProcess,
    ProcessState,
)
from relay.protocols.webrtc.stun import Address

log = logging.getLogger(__name__)

BACKOFF: Final = (0.1, 0.5, 2.0, 10.0, 30.0)
"""Seconds before a process that was lost is started again, the last one again and again."""
STEADY: Final = 10.0
"""Seconds of life after which an end is not taken for a failing start."""
STRAYS: Final = 200
"""Datagrams a second of unknown source that processes are shown: of a peer that has moved."""

ALONE: Final = 1.0
"""Seconds between two looks at the load where there are too few peers for another process: each
costs a loop that mostly waits as much as a picture."""

CORES: Final = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1

P = TypeVar("P", bound=MediaProcess)  # type: ignore[type-arg]


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A process that serves peers; number 0 is the gateway's own.

    Attributes:
        kind: ``gateway``, or of which kind the process is.
        viewers, publishers: with those that are being answered.
        load: share of a core.
        dropped: pictures that were lost on their way to it or from it.
    """

    kind: str
    number: int
    pid: int | None
    state: str
    viewers: int
    publishers: int
    load: float
    restarts: int
    dropped: int


class Pool(ABC, Generic[P]):
    """
    Args:
        used: whether there may ever be processes.
        along: looked after in the same turn as this one: each turn of a loop that has little to
            do is dear.
    """

    kind: ClassVar[str]
    restarts_counted: ClassVar[Counter]

    def __init__(self, peers: Peers, *, used: bool, along: Pool[Any] | None = None) -> None:
        self._peers = peers
        self._processes: dict[int, P] = {}
        self._keepers: dict[int, asyncio.Task[None]] = {}
        self._restarts: dict[int, int] = {}
        self._orphans = Orphans(peers.udp)
        self._meter = Meter()
        self._strays, self._strays_since = 0, 0.0
        self._watching: asyncio.Task[None] | None = None
        self._watched: list[Pool[Any]] = []
        self._over = False
        self._own_stray = peers.udp.on_stray
        if used:
            (along or self).watch(self)
            peers.udp.on_stray = self._stray

    # -- what a kind has of its own

    @abstractmethod
    def _make(self, number: int) -> P:
        """A process of this number."""

    def _weigh(self, share: float, now: float) -> None:
        """Start or let go what is to be.

        Args:
            share: of a core that the gateway's own process takes.
        """

    @abstractmethod
    def _may_be(self, data: bytes) -> bool:
        """Whether such a datagram, of unknown source and no STUN, tells that a peer has moved."""

    # -- status

    def status(self) -> list[ProcessStatus]:
        """By number; those that are to be started again too."""
        found = [
            ProcessStatus(
                *(process.kind, number, process.pid, process.state.value),
                *(process.viewers, process.publishers, process.share),
                *(self._restarts.get(number, 0), process.dropped),
            )
            for number, process in self._processes.items()
            if process.pid is not None
        ]
        found += [
            ProcessStatus(
                self.kind, number, None, "gone", 0, 0, 0.0, self._restarts.get(number, 0), 0
            )
            for number in self._keepers
            if number not in self._processes
        ]
        return sorted(found, key=lambda each: each.number)

    def unread(self) -> Iterator[tuple[Hashable, Mapping[str, int]]]:
        """Datagrams that each process dropped, as ``Peers.dropped``, with what it is known by."""
        for process in self._processes.values():
            yield process, process.unread

    # -- processes

    def start(self, number: int) -> None:
        """Have a process of this number, and keep it."""
        if number not in self._keepers:
            task = asyncio.create_task(self._keep(number), name=f"process {number}")
            self._keepers[number] = task
            task.add_done_callback(lambda _: self._keepers.pop(number, None))

    async def _keep(self, number: int) -> None:
        failures = 0
        while True:
            process = self._make(number)
            self._processes[number] = process
            began = time.monotonic()
            try:
                how = await process.run()
            except OSError as error:
                how = f"it cannot be started: {error}"
            finally:
                del self._processes[number]
            if process.left:
                log.info("%s: %s", process.name, how)
                return
            failures = 0 if time.monotonic() - began > STEADY else failures + 1
            self._restarts[number] = self._restarts.get(number, 0) + 1
            self.restarts_counted.inc()
            pause = BACKOFF[min(max(failures, 1), len(BACKOFF)) - 1]
            lost, peers = process.lost_peers, process.peers_are
            log.error(
                "%s is lost with %d %s: %s; it is started again in %.1f s",
                *(process.name, lost, peers.removesuffix("s") if lost == 1 else peers, how, pause),
            )
            await asyncio.sleep(pause)

    def _configure(self) -> Configure:
        settings = self._peers.settings.model_dump(mode="json")
        candidates = [asdict(candidate) for candidate in self._peers.candidates]
        return Configure(settings, candidates, logging.getLogger().level)

    def _ready(self) -> list[P]:
        return [process for _, process in sorted(self._processes.items()) if process.ready]

    def watch(self, pool: Pool[Any]) -> None:
        """Look after it from now on."""
        self._watched.append(pool)
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name="processes")

    async def _watch(self) -> None:
        while True:
            now = time.monotonic()
            share = self._meter.add(now, time.thread_time())
            for pool in self._watched:
                pool.weigh(share, now)
            few = len(self._peers) < FEW and not self._processes
            await asyncio.sleep(ALONE if few else INTERVAL)

    def weigh(self, share: float, now: float) -> None:
        """To be called several times a second; ``share`` as ``_weigh``."""
        if not self._over:
            self._weigh(share, now)

    def _stray(self, data: bytes, address: Address, now: float) -> None:
        """A peer that has moved is known by what it sends, to whoever serves it."""
        self._own_stray(data, address, now)
        if not 127 < data[0] < 192 or len(data) < 12 or not self._may_be(data):
            return
        if now - self._strays_since > INTERVAL:
            self._strays, self._strays_since = 0, now
        for process in self._processes.values():
            if process.ready and self._strays < STRAYS * INTERVAL:
                self._strays += 1
                process.stray(data, address)

    async def end(self, reason: str) -> None:
        """End all processes, and start none any more. Before the port is closed."""
        self._over = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
        self._peers.udp.on_stray = self._own_stray
        for process in self._processes.values():
            process.dismiss(reason)
        keepers = list(self._keepers.values())
        leaving = [
            keeper
            for number, keeper in self._keepers.items()
            if (p := self._processes.get(number)) is not None and p.state is ProcessState.LEAVING
        ]
        if leaving:
            await asyncio.wait(leaving, timeout=LEAVE_WITHIN)
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        self._orphans.close()
