"""A stream's viewers, as the API tells them."""

from __future__ import annotations

from relay.errors import NotFound
from relay.gateway.status import ProcessStatus, ViewerStatus
from relay.protocols.webrtc.egress import EgressSession, ViewerStatistics
from relay.protocols.webrtc.processes import pool
from relay.protocols.webrtc.processes.session import FarSession, ViewerSession
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


def process_status(given: pool.ProcessStatus) -> ProcessStatus:
    return ProcessStatus(
        number=given.number,
        pid=given.pid,
        state=given.state,
        viewers=given.viewers,
        load=given.load,
        restarts=given.restarts,
        dropped=given.dropped,
    )


async def viewer_of(session: ViewerSession, now: float) -> ViewerStatus:
    """
    Args:
        now: ``time.monotonic()``.

    Raises:
        NotFound: the session is a publisher's, or has just ended.
        PeerError, Unavailable: the process that serves it does not answer.
    """
    if isinstance(session, FarSession):
        return viewer_status(await session.statistics())
    if not isinstance(session, EgressSession):
        raise NotFound("this session is no viewer's", code="viewer_not_found")
    return viewer_status(session.statistics(now))
