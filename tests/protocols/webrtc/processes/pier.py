"""A gateway's ingest with real processes, and publishers on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from relay.config import WebRtc
from relay.protocols.webrtc.ingest import Ingest
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.processes.far_publisher import FarPublisher, PublisherSession
from relay.protocols.webrtc.processes.ingest_process import IngestProcess
from relay.protocols.webrtc.processes.ingests import Ingests
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.live_publisher import Sending, Sink
from tests.protocols.webrtc.processes.hall import until


class Landing(Sink):
    """Attributes:
    ended: why its session ended, each time it was told.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[str] = []

    def closed(self, reason: str) -> None:
        self.ended.append(reason)


class Caller(Sending):
    """A publisher, whoever receives it."""

    def __init__(self, peer: Peer, session: PublisherSession, sink: Landing) -> None:
        super().__init__(peer, sink)
        self.session = session
        self.landing = sink


class Pier:
    """Attributes:
    where: the place that the next publisher gets; 0 is here. None: as it comes.
    """

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        self.where: int | None = 1
        self.ingest = Ingests(peers, Ingest(peers))
        chosen = self.ingest._place

        async def place() -> IngestProcess | None:
            if self.where is None:
                return await chosen()
            return self.process(self.where) if self.where else None

        self.ingest._place = place  # type: ignore[method-assign]
        self._publishers: list[Peers] = []

    def process(self, number: int = 1) -> IngestProcess:
        return self.ingest._processes[number]

    async def started(self, number: int = 1) -> IngestProcess:
        await until(lambda: number in self.ingest._processes and self.process(number).ready)
        return self.process(number)

    async def publisher(
        self,
        where: int | None,
        *,
        audio: bool = False,
        through: Callable[[str], str] = lambda answer: answer,
    ) -> Caller:
        """At a place, connected; it has sent nothing."""
        self.where = where
        mine = await Peers.open(WebRtc(host="127.0.0.1", port=0))
        self._publishers.append(mine)
        offering = Offering(mine, send=True, audio=audio)
        sink = Landing()
        session = await self.ingest.answer(offering.text, sink)
        if where is not None:
            assert isinstance(session, FarPublisher) is (where > 0)
        offering.accept(through(session.answer))
        await reach(offering.peer, PeerState.CONNECTED)
        return Caller(offering.peer, session, sink)

    async def leave(self) -> None:
        for mine in self._publishers:
            await mine.close()


@asynccontextmanager
async def pier(**settings: Any) -> AsyncIterator[Pier]:
    given = {"host": "127.0.0.1", "port": 0, "ingest_processes": 2, **settings}
    chosen = WebRtc(**given)
    peers = await Peers.open(chosen)
    made = Pier(peers)
    try:
        yield made
        await made.leave()
    finally:
        await made.ingest.end("the test is over")
        await peers.close()
    assert not made.ingest._processes
