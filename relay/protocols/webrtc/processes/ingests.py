"""Ingest as the gateway sees it: its own, and processes that receive some of its publishers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakSet

from relay import metrics
from relay.errors import PeerError
from relay.protocols.webrtc.ingest import Ingest, IngestSession
from relay.protocols.webrtc.ingest_sink import IngestSink
from relay.protocols.webrtc.peer_state import PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.processes.far_publisher import PublisherSession
from relay.protocols.webrtc.processes.ingest_process import IngestProcess
from relay.protocols.webrtc.processes.placement import (
    FEW_PUBLISHERS,
    PUBLISHER,
    Place,
    Scale,
    choose,
    ingest_processes,
)
from relay.protocols.webrtc.processes.pool import CORES, Pool

log = logging.getLogger(__name__)


class Ingests(Pool[IngestProcess]):
    """All publishers of a gateway, wherever they are received.

    Where ``ingest_apart`` is set that is never the gateway's own process, unless no other one is
    ready.

    Args:
        local: the gateway's own.
        place: which of these gets the next publisher.
        along: looked after in the same turn.
    """

    restarts_counted = metrics.INGEST_RESTARTS

    def __init__(
        self,
        peers: Peers,
        local: Ingest,
        place: Callable[[Sequence[Place]], int] = choose,
        along: Pool[Any] | None = None,
    ) -> None:
        settings = peers.settings
        limit = ingest_processes(settings.ingest_processes, CORES)
        self._apart = settings.ingest_apart
        if self._apart:
            limit = max(1, limit)
        scale = Scale(
            *(limit, settings.egress_idle), each=PUBLISHER, few=FEW_PUBLISHERS, kept=self._apart
        )
        super().__init__(peers, scale, place, along)
        self._local = local
        self._sessions: WeakSet[IngestSession] = WeakSet()
        if self._apart:
            self.start(1)

    async def answer(self, offer: str, sink: IngestSink) -> PublisherSession:
        """Accept an offer; its media goes to ``sink``; raises as ``Ingest.answer``."""
        process = self._place()
        if process is not None:
            try:
                return await process.answer(offer, sink)
            except PeerError as error:
                log.warning("a publisher is received here after all: %s", error)
        session = await self._local.answer(offer, sink)
        self._sessions.add(session)
        return session

    def here(self) -> int:
        """Publishers that the gateway's own process receives."""
        return sum(not session.is_closed for session in self._sessions)

    # -- what a Pool asks

    def _place(self) -> IngestProcess | None:
        if not self._apart:
            return super()._place()
        ready = self._ready()
        return ready[self._choose(self._places(ready)[1:])] if ready else None

    def _make(self, number: int) -> IngestProcess:
        return IngestProcess(number, self._peers.udp, self._configure(), self._orphans)

    def _here(self) -> int:
        return self.here()

    def _connected(self, ready: Sequence[IngestProcess]) -> int:
        here = sum(session.peer.state is PeerState.CONNECTED for session in self._sessions)
        return here + sum(process.measured for process in ready)

    def _may_be(self, data: bytes) -> bool:
        """A publisher sends media, and reports."""
        return True
