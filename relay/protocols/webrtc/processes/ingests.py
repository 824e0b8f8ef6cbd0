"""Ingest as the gateway sees it: its own, or processes that receive all publishers in its place."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Final
from weakref import WeakSet

from relay import metrics
from relay.errors import PeerError
from relay.protocols.webrtc.ingest import Ingest, IngestSession
from relay.protocols.webrtc.ingest_sink import IngestSink
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.processes.far_publisher import PublisherSession
from relay.protocols.webrtc.processes.ingest_process import IngestProcess
from relay.protocols.webrtc.processes.pool import Pool

log = logging.getLogger(__name__)

PATIENCE: Final = 3.0
"""Seconds that a publisher waits for a process to start, or to start again."""


class Ingests(Pool[IngestProcess]):
    """All publishers of a gateway.

    With ``ingest_processes`` there are so many from the start, and the one that has the fewest
    publishers gets the next. While none is ready they wait a little; where that does not help, the
    gateway's own ingest receives them, which the session's ``process`` tells.

    Args:
        local: the gateway's own.
        along: as ``Pool`` takes it.
    """

    kind = IngestProcess.kind
    restarts_counted = metrics.INGEST_RESTARTS

    def __init__(self, peers: Peers, local: Ingest, along: Pool[Any] | None = None) -> None:
        number = peers.settings.ingest_processes
        super().__init__(peers, used=number > 0, along=along)
        self._local = local
        self._sessions: WeakSet[IngestSession] = WeakSet()
        self._number = number
        self._one_ready = asyncio.Event()
        for each in range(1, number + 1):
            self.start(each)

    async def answer(self, offer: str, sink: IngestSink) -> PublisherSession:
        """Accept an offer; its media goes to ``sink``; raises as ``Ingest.answer``."""
        process = await self._place()
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

    async def _place(self) -> IngestProcess | None:
        """None: here."""
        if self._number and not self._ready():
            self._one_ready.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._one_ready.wait(), PATIENCE)
        return min(self._ready(), key=lambda process: process.publishers, default=None)

    # -- what a Pool asks

    def _make(self, number: int) -> IngestProcess:
        made = IngestProcess(number, self._peers.udp, self._configure(), self._orphans)
        made.on_ready = self._one_ready.set
        return made

    def _may_be(self, data: bytes) -> bool:
        """A publisher sends media, and reports."""
        return True
