"""A stream's viewers, and where they and publishers are served, as the API tells them."""

from __future__ import annotations

from dataclasses import replace

from relay.errors import NotFound
from relay.gateway.status import ProcessStatus, ViewerStatus
from relay.protocols.webrtc.egress import EgressSession, ViewerStatistics
from relay.protocols.webrtc.processes import pool
from relay.protocols.webrtc.processes.egresses import Egresses
from relay.protocols.webrtc.processes.ingests import Ingests
from relay.protocols.webrtc.processes.session import FarViewer, ServedSession
from relay.protocols.webrtc.session import short


def viewer_status(given: ViewerStatistics) -> ViewerStatus:
    trip = given.round_trip
    return ViewerStatus(
        id=short(given.id),
        state=given.state,
        connected_for=given.connected_for,
        packets=given.packets,
        octets=given.octets,
        resent=given.resent,
        nacked=given.nacked,
        keyframes_asked=given.keyframes_asked,
        fraction_lost=given.fraction_lost,
        jitter_ms=given.jitter * 1000,
        round_trip_ms=None if trip is None else trip * 1000,
        estimate=None if given.estimate is None else round(given.estimate),
        queue_ms=None if given.queue_delay is None else given.queue_delay * 1000,
        pauses=given.pauses,
        process=given.process,
    )


def process_statuses(egress: Egresses, ingest: Ingests) -> list[ProcessStatus]:
    """Of all processes, the gateway's own first."""
    own, *others = egress.status()
    own = replace(own, publishers=ingest.here())
    return [_process_status(given) for given in (own, *others, *ingest.status())]


def _process_status(given: pool.ProcessStatus) -> ProcessStatus:
    return ProcessStatus(
        kind=given.kind,
        number=given.number,
        pid=given.pid,
        state=given.state,
        viewers=given.viewers,
        publishers=given.publishers,
        load=given.load,
        restarts=given.restarts,
        dropped=given.dropped,
    )


async def viewer_of(session: ServedSession, now: float) -> ViewerStatus:
    """
    Args:
        now: ``time.monotonic()``.

    Raises:
        NotFound: the session is a publisher's, or has just ended.
        PeerError, Unavailable: the process that serves it does not answer.
    """
    if isinstance(session, FarViewer):
        return viewer_status(await session.statistics())
    if not isinstance(session, EgressSession):
        raise NotFound("this session is no viewer's", code="viewer_not_found")
    return viewer_status(session.statistics(now))
