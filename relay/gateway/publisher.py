"""One ingest session on a path."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final, Protocol

from relay.gateway.journal import Subject, Tell
from relay.gateway.rates import Meter
from relay.gateway.search import Search
from relay.gateway.status import Caution, Input
from relay.gateway.teller import Teller
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.processes.far_publisher import PublisherSession

SILENT: Final = 2.0
"""Seconds without a packet after which a publisher is said to be silent. Its session ends later."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a publisher wants, and was allowed.

    Attributes:
        model, params: what is to run.
        pipeline_id: the operator's own id of the pipeline; in events only.
        orchestrator: only orchestrators whose address has this in it may serve; empty
            lets any.
        not_offered: what it asked for that this gateway does not do.
    """

    model: str
    params: dict[str, Any]
    stream_id: str
    request_id: str
    pipeline_id: str = ""
    orchestrator: str = ""
    not_offered: tuple[str, ...] = ()


class PublisherHost(Protocol):
    """What a publisher needs of its path."""

    def clock(self, now: float) -> int: ...

    def unit(self, publisher: Publisher, unit: AccessUnit) -> None: ...

    def publisher_gone(self, publisher: Publisher, reason: str) -> None: ...


class Publisher:
    """Puts the timestamps of one ingest session on the path's clock.

    Args:
        tell: who hears the events of this stream start.
    """

    def __init__(self, path: PublisherHost, wish: Wish, tell: Tell) -> None:
        self.path = path
        self.wish = wish
        self.model = wish.model
        self.params = wish.params
        self.stream_id = wish.stream_id
        self.request_id = wish.request_id
        self.teller = Teller(
            Subject(wish.stream_id, wish.request_id, wish.model, wish.pipeline_id), tell
        )
        self.started = time.time()
        self.session: PublisherSession | None = None
        self.search: Search | None = None
        self.came = time.monotonic()
        self._base: int | None = None

    def unit(self, unit: AccessUnit) -> None:
        if self._base is None:
            self._base = self.path.clock(unit.arrival) - unit.pts
        if self._base:
            # As ``unit.at`` does it, in a call less.
            pts = unit.pts + self._base
            unit = AccessUnit(unit.codec, unit.payload, pts, unit.arrival, unit.keyframe)
        self.path.unit(self, unit)

    def leave(self) -> None:
        """It is this path's publisher no more."""
        if self.search is not None:
            self.search.close()

    def closed(self, reason: str) -> None:
        self.path.publisher_gone(self, reason)

    @property
    def heard(self) -> float:
        """When its last packet came, before the first one when it came itself (monotonic)."""
        last = self.session.statistics().last_arrival if self.session is not None else None
        return self.came if last is None else last

    def cautions(self, now: float) -> tuple[Caution, ...]:
        """What may be wrong with what it sends."""
        silent = now - self.heard
        if self.session is None or silent < SILENT:
            return ()
        words = f"nothing has come from the publisher for {silent:.0f} seconds"
        return (Caution("input_silent", words),)

    def measure(self, meter: Meter, now: float, *, connected: bool) -> Input | None:
        """What is seen of it now; None while it is being answered."""
        if self.session is None:
            return None
        seen = self.session.statistics()
        return Input(
            connected=connected,
            fps=meter.fps(now),
            bitrate=meter.bitrate(now),
            width=seen.width,
            height=seen.height,
            has_audio=self.session.has_audio,
            packets=seen.packets,
            lost=seen.lost,
            keyframe_age=seen.keyframe_age,
            jitter_ms=seen.jitter_ms,
            bytes=meter.total,
            process=self.session.process,
        )
