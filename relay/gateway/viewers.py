"""A stream's viewers, as the API tells them."""

from __future__ import annotations

from typing import Final

from relay.errors import NotFound
from relay.gateway.status import ViewerStatus
from relay.protocols.webrtc.egress import EgressSession, ViewerStatistics
from relay.protocols.webrtc.session import Session

SHORT: Final = 8
"""Characters of a session's id that may be shown: the whole of it is the right to end it."""


def viewer_status(given: ViewerStatistics) -> ViewerStatus:
    trip = given.round_trip
    return ViewerStatus(
        id=given.id[:SHORT],
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
    )


def viewer_of(session: Session, now: float) -> ViewerStatus:
    """
    Args:
        now: ``time.monotonic()``.

    Raises:
        NotFound: the session is a publisher's.
    """
    if not isinstance(session, EgressSession):
        raise NotFound("this session is no viewer's", code="viewer_not_found")
    return viewer_status(session.statistics(now))


def page(found: list[ViewerStatistics], limit: int, after: str) -> list[ViewerStatus]:
    """Those that came after the viewer ``after``, the earliest first, ``limit`` of them.

    A viewer that has left meanwhile is no place to go on from: the list begins anew.
    """
    ids = [given.id[:SHORT] for given in found]
    start = ids.index(after) + 1 if after in ids else 0
    return [viewer_status(given) for given in found[start : start + limit]]
