"""Egress as the gateway sees it: its own, and processes that are started when it has much to do.

A viewer is placed when its offer comes, and stays where it is. Nobody waits for a process to
start: until then the others serve.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final
from weakref import WeakValueDictionary

from relay import metrics
from relay.errors import NotFound, ParseError, PeerError, RelayError
from relay.media.unit import Codec
from relay.protocols.webrtc.egress import Egress, EgressSession, ViewerStatistics
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.processes.load import INTERVAL, Meter
from relay.protocols.webrtc.processes.messages import Configure, Unit
from relay.protocols.webrtc.processes.orphans import Orphans
from relay.protocols.webrtc.processes.placement import Place, Scale, choose, processes
from relay.protocols.webrtc.processes.process import (
    LEAVE_WITHIN,
    EgressProcess,
    ProcessState,
)
from relay.protocols.webrtc.processes.session import FarSession
from relay.protocols.webrtc.processes.wire import unit
from relay.protocols.webrtc.stun import Address

log = logging.getLogger(__name__)

BACKOFF: Final = (0.1, 0.5, 2.0, 10.0, 30.0)
"""Seconds before a process that was lost is started again, the last one again and again."""
STEADY: Final = 10.0
"""Seconds of life after which an end is not taken for a failing start."""
STRAYS: Final = 200
"""Datagrams a second of unknown source that processes are shown: a viewer's that has moved."""

_CORES: Final = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A process that serves viewers; number 0 is the gateway's own."""

    number: int
    pid: int
    state: str
    viewers: int
    load: float
    """Share of a core."""
    restarts: int
    dropped: int
    """Pictures that it was not sent, or came to it too late."""


class Egresses:
    """All renditions of a gateway, and their viewers, wherever they are served.

    Args:
        local: the gateway's own.
        place: which of these gets the next viewer.
    """

    def __init__(
        self,
        peers: Peers,
        local: Egress,
        place: Callable[[Sequence[Place]], int] = choose,
    ) -> None:
        self._choose = place
        self._peers = peers
        self._local = local
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._next_number = 0
        # All viewers of a rendition, in the order in which they came. Weak: who has left is held
        # by nobody, and nobody has to come by for that.
        self._viewers: dict[str, WeakValueDictionary[str, EgressSession | FarSession]] = {}
        self._processes: dict[int, EgressProcess] = {}
        self._keepers: dict[int, asyncio.Task[None]] = {}
        self._restarts: dict[int, int] = {}
        self._orphans = Orphans(peers.udp)
        limit = processes(peers.settings.egress_processes, _CORES)
        self._scale = Scale(limit, peers.settings.egress_idle)
        self._meter = Meter()
        self._share = 0.0
        self._measured = 0
        self._strays = 0
        self._watching: asyncio.Task[None] | None = None
        if limit:
            self._watching = asyncio.create_task(self._watch(), name="egress processes")
            self._own_stray = peers.udp.on_stray
            peers.udp.on_stray = self._stray

    # -- what Egress has

    def open(self, rendition: str, *, on_keyframe_wanted: Callable[[], None]) -> None:
        """As ``Egress.open``."""
        self._local.open(rendition, on_keyframe_wanted=on_keyframe_wanted)
        if rendition not in self._numbers:
            self._next_number += 1
            self._numbers[rendition] = self._next_number
            self._names[self._next_number] = rendition
            self._viewers[rendition] = WeakValueDictionary()

    def frame(
        self,
        rendition: str,
        codec: Codec,
        payloads: Sequence[bytes],
        timestamp: int,
        *,
        keyframe: bool = False,
    ) -> None:
        """As ``Egress.frame``; processes get it first, so that they work meanwhile."""
        if self._processes and payloads:
            self._pass_on(rendition, codec, payloads, timestamp, keyframe=keyframe)
        self._local.frame(rendition, codec, payloads, timestamp, keyframe=keyframe)

    def _pass_on(
        self,
        rendition: str,
        codec: Codec,
        payloads: Sequence[bytes],
        timestamp: int,
        *,
        keyframe: bool,
    ) -> None:
        number = self._numbers.get(rendition)
        takers = [p for p in self._processes.values() if number in p.feeds]
        if number is None or not takers:
            return
        now = time.monotonic()
        made = Unit(number, codec, payloads, timestamp, now, keyframe)
        try:
            data = unit(made)
        except ParseError:
            return  # too large: what the gateway's own does not send either
        for process in takers:
            process.unit(made, data)

    def forget(self, rendition: str) -> None:
        """As ``Egress.forget``."""
        self._local.forget(rendition)
        if (number := self._numbers.get(rendition)) is not None:
            for process in self._processes.values():
                process.forget(number)

    async def answer(self, rendition: str, offer: str) -> EgressSession | FarSession:
        """Let a viewer in where there is most room; raises as ``Egress.answer``."""
        number = self._numbers.get(rendition)
        if number is None:
            raise NotFound(f"no rendition {rendition}", code="no_rendition")
        session: EgressSession | FarSession | None = None
        process = self._place()
        if process is not None:
            try:
                session = await process.answer(number, offer, lambda: self._kept(rendition, number))
            except PeerError as error:
                log.warning("a viewer is served here after all: %s", error)
        if session is None:
            session = await self._local.answer(rendition, offer)
        known = self._viewers.get(rendition)
        if known is None:
            await session.close("the stream has ended")
            raise NotFound(f"no rendition {rendition}", code="no_rendition")
        known[session.id] = session
        return session

    def _place(self) -> EgressProcess | None:
        """None: here."""
        ready = self._ready()
        return None if not ready else (None, *ready)[self._choose(self._places(ready))]

    def _kept(self, rendition: str, number: int) -> Iterator[Unit]:
        frames, at = self._local.kept(rendition)
        for index, frame in enumerate(frames):
            payloads, first = frame.payloads, index == 0
            yield Unit(number, Codec.H264, payloads, frame.timestamp, at, first, kept=True)

    async def viewers(
        self,
        rendition: str,
        limit: int | None = None,
        after: Callable[[str], bool] | None = None,
    ) -> list[ViewerStatistics]:
        """As ``Egress.viewers``, of all processes; without those of one that does not answer."""
        sessions = self._living(rendition)
        places = (at for at, session in enumerate(sessions, 1) if after and after(session.id))
        first = next(places, 0)
        return await self.look(sessions[first : None if limit is None else first + limit])

    async def look(self, sessions: Sequence[EgressSession | FarSession]) -> list[ViewerStatistics]:
        """How these viewers are, in this order; those that ended meanwhile are left out."""
        there: dict[int, list[str]] = {}
        for session in sessions:
            if isinstance(session, FarSession):
                there.setdefault(session.process, []).append(session.id)
        answers = await asyncio.gather(
            *(
                self._processes[n].statistics(ids)
                for n, ids in there.items()
                if n in self._processes
            ),
            return_exceptions=True,
        )
        found: dict[str, ViewerStatistics] = {}
        for answer in answers:
            if isinstance(answer, RelayError):
                continue
            if isinstance(answer, BaseException):
                raise answer
            found |= {given["id"]: ViewerStatistics(**given) for given in answer}
        now = time.monotonic()
        for session in sessions:
            if isinstance(session, EgressSession):
                found[session.id] = session.statistics(now)
        return [found[session.id] for session in sessions if session.id in found]

    def count(self, rendition: str) -> int:
        """As ``Egress.count``."""
        number = self._numbers.get(rendition)
        far = (p.feeds[number].viewers for p in self._processes.values() if number in p.feeds)
        return self._local.count(rendition) + sum(far)

    async def close(self, rendition: str, reason: str) -> None:
        """As ``Egress.close``."""
        number = self._numbers.pop(rendition, None)
        if number is not None:
            del self._names[number]
            self._viewers.pop(rendition, None)
            for process in self._processes.values():
                process.shut(number, reason)
        await self._local.close(rendition, reason)

    def _living(self, rendition: str) -> list[EgressSession | FarSession]:
        known = self._viewers.get(rendition)
        if known is None:
            raise NotFound(f"no rendition {rendition}", code="no_rendition")
        return [session for session in known.values() if not session.is_closed]

    # -- processes

    def status(self) -> list[ProcessStatus]:
        """The gateway's own first."""
        local = self._local.total()
        found = [ProcessStatus(0, os.getpid(), "ready", local, self._share, 0, 0)]
        for number, process in sorted(self._processes.items()):
            if process.pid is not None:
                found.append(
                    ProcessStatus(
                        *(number, process.pid, process.state.value, process.viewers),
                        *(process.share, self._restarts.get(number, 0), process.dropped),
                    )
                )
        return found

    def unread(self) -> Iterator[tuple[Hashable, Mapping[str, int]]]:
        """Datagrams that each process dropped, as ``Peers.dropped``, with what it is known by."""
        yield 0, self._peers.dropped
        for process in self._processes.values():
            yield process, process.unread

    def start(self, number: int) -> None:
        """Have a process of this number, and keep it."""
        if number not in self._keepers:
            task = asyncio.create_task(self._keep(number), name=f"egress {number}")
            self._keepers[number] = task
            task.add_done_callback(lambda _: self._keepers.pop(number, None))

    async def _keep(self, number: int) -> None:
        failures = 0
        while True:
            process = EgressProcess(
                *(number, self._peers.udp, self._configure()), self._want_keyframe, self._orphans
            )
            self._processes[number] = process
            began = time.monotonic()
            try:
                how = await process.run()
            except OSError as error:
                how = f"it cannot be started: {error}"
            finally:
                del self._processes[number]
            if process.left:
                log.info("egress %d: %s", number, how)
                return
            log.error("egress %d is lost with %d viewers: %s", number, process.lost_viewers, how)
            failures = 0 if time.monotonic() - began > STEADY else failures + 1
            self._restarts[number] = self._restarts.get(number, 0) + 1
            metrics.EGRESS_RESTARTS.inc()
            await asyncio.sleep(BACKOFF[min(max(failures, 1), len(BACKOFF)) - 1])

    def _configure(self) -> Configure:
        settings = self._peers.settings.model_dump(mode="json")
        candidates = [asdict(candidate) for candidate in self._peers.candidates]
        return Configure(settings, candidates, logging.getLogger().level)

    def _want_keyframe(self, number: int) -> None:
        if (rendition := self._names.get(number)) is not None:
            self._local.want_keyframe(rendition)

    def _ready(self) -> list[EgressProcess]:
        return [process for _, process in sorted(self._processes.items()) if process.ready]

    def _places(self, ready: Sequence[EgressProcess]) -> list[Place]:
        local = Place(self._share, self._local.total(), self._measured)
        return [local, *(Place(p.share, p.viewers, p.measured) for p in ready)]

    async def _watch(self) -> None:
        """Measure, and start or let go what is to be."""
        while True:
            now = time.monotonic()
            self._share = self._meter.add(now, time.thread_time())
            self._measured = self._local.total()
            self._strays = 0
            ready = self._ready()
            places = self._places(ready)
            if self._scale.wants_another(places, self._connected(ready), len(self._keepers), now):
                free = next(n for n in range(1, self._scale.limit + 1) if n not in self._keepers)
                log.info(
                    "viewers take %.2f of a core here; egress %d is started", self._share, free
                )
                self.start(free)
            elif (at := self._scale.can_spare(places, now)) is not None:
                ready[at - 1].dismiss("nobody watches here")
            await asyncio.sleep(INTERVAL)

    def _connected(self, ready: Sequence[EgressProcess]) -> int:
        """Peers here, publishers among them, and all viewers elsewhere."""
        here = len(self._peers) - len(self._peers.half_open)
        return here + sum(process.measured for process in ready)

    def _stray(self, data: bytes, address: Address, now: float) -> None:
        """A viewer that has moved is known by what it reports: by RTCP, to whoever serves it."""
        self._own_stray(data, address, now)
        if not 127 < data[0] < 192 or len(data) < 12 or not 191 < data[1] < 224:
            return
        for process in self._processes.values():
            if process.ready and self._strays < STRAYS * INTERVAL:
                self._strays += 1
                process.stray(data, address)

    async def end(self, reason: str) -> None:
        """End all processes, and start none any more. Before the port is closed."""
        if self._watching is not None:
            self._watching.cancel()
            self._peers.udp.on_stray = self._own_stray
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
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
