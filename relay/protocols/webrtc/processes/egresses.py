"""Egress as the gateway sees it: its own, and processes that serve some of its viewers."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from weakref import WeakValueDictionary

from relay import metrics
from relay.errors import NotFound, ParseError, PeerError, RelayError
from relay.media.unit import Codec
from relay.protocols.webrtc.egress import Egress, EgressSession, ViewerStatistics
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.processes.egress_process import EgressProcess
from relay.protocols.webrtc.processes.messages import Unit
from relay.protocols.webrtc.processes.placement import Place, Scale, choose, processes
from relay.protocols.webrtc.processes.pool import CORES, Pool, ProcessStatus
from relay.protocols.webrtc.processes.session import FarViewer
from relay.protocols.webrtc.processes.wire import unit

log = logging.getLogger(__name__)


class Egresses(Pool[EgressProcess]):
    """All renditions of a gateway, and their viewers, wherever they are served.

    Args:
        local: the gateway's own.
        place: which of these gets the next viewer.
    """

    kind = EgressProcess.kind
    restarts_counted = metrics.EGRESS_RESTARTS

    def __init__(
        self,
        peers: Peers,
        local: Egress,
        place: Callable[[Sequence[Place]], int] = choose,
    ) -> None:
        settings = peers.settings
        limit = processes(settings.egress_processes, CORES)
        self._scale = Scale(limit, settings.egress_idle)
        self._choose = place
        self._local = local
        self._share = 0.0
        self._measured = 0
        super().__init__(peers, used=limit > 0)
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._next_number = 0
        # All viewers of a rendition, in the order in which they came. Weak: who has left is held
        # by nobody, and nobody has to come by for that.
        self._viewers: dict[str, WeakValueDictionary[str, EgressSession | FarViewer]] = {}

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

    async def answer(self, rendition: str, offer: str) -> EgressSession | FarViewer:
        """Let a viewer in where there is most room; raises as ``Egress.answer``."""
        number = self._numbers.get(rendition)
        if number is None:
            raise NotFound(f"no rendition {rendition}", code="no_rendition")
        session: EgressSession | FarViewer | None = None
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

    async def look(self, sessions: Sequence[EgressSession | FarViewer]) -> list[ViewerStatistics]:
        """How these viewers are, in this order; those that ended meanwhile are left out."""
        there: dict[int, list[str]] = {}
        for session in sessions:
            if isinstance(session, FarViewer):
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

    def _living(self, rendition: str) -> list[EgressSession | FarViewer]:
        known = self._viewers.get(rendition)
        if known is None:
            raise NotFound(f"no rendition {rendition}", code="no_rendition")
        return [session for session in known.values() if not session.is_closed]

    # -- what a Pool asks

    def status(self) -> list[ProcessStatus]:
        """The gateway's own first."""
        viewers = self._local.total()
        own = ProcessStatus("gateway", 0, os.getpid(), "ready", viewers, 0, self._share, 0, 0)
        return [own, *super().status()]

    def unread(self) -> Iterator[tuple[Hashable, Mapping[str, int]]]:
        """With the gateway's own."""
        yield 0, self._peers.dropped
        yield from super().unread()

    def _make(self, number: int) -> EgressProcess:
        return EgressProcess(
            *(number, self._peers.udp, self._configure(), self._orphans), self._want_keyframe
        )

    def _want_keyframe(self, number: int) -> None:
        if (rendition := self._names.get(number)) is not None:
            self._local.want_keyframe(rendition)

    def _place(self) -> EgressProcess | None:
        """None: here."""
        ready = self._ready()
        return None if not ready else (None, *ready)[self._choose(self._places(ready))]

    def _places(self, ready: Sequence[EgressProcess]) -> list[Place]:
        local = Place(self._share, self._local.total(), self._measured)
        return [local, *(Place(p.share, p.viewers, p.measured) for p in ready)]

    def _weigh(self, share: float, now: float) -> None:
        self._share = share
        self._measured = self._local.total()
        ready = self._ready()
        places = self._places(ready)
        if self._scale.wants_another(places, self._connected(ready), len(self._keepers), now):
            free = next(n for n in range(1, self._scale.limit + 1) if n not in self._keepers)
            log.info("viewers take %.2f of a core here; egress %d is started", share, free)
            self.start(free)
        elif (at := self._scale.can_spare(places, now)) is not None:
            ready[at - 1].dismiss("nobody watches here")

    def _connected(self, ready: Sequence[EgressProcess]) -> int:
        """Peers here, publishers among them, and all viewers elsewhere."""
        here = len(self._peers) - len(self._peers.half_open)
        return here + sum(process.measured for process in ready)

    def _may_be(self, data: bytes) -> bool:
        """A viewer reports."""
        return 191 < data[1] < 224
