"""One ingest session on a path."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import Any, Protocol

from relay.media.unit import AccessUnit
from relay.protocols.webrtc.ingest import IngestSession


class PublisherHost(Protocol):
    """What a publisher needs of its path."""

    def clock(self, now: float) -> int: ...

    def unit(self, publisher: Publisher, unit: AccessUnit) -> None: ...

    def publisher_gone(self, publisher: Publisher, reason: str) -> None: ...


class Publisher:
    """Puts the timestamps of one ingest session on the path's clock.

    Args:
        model, params: what it wants to run.
    """

    def __init__(
        self, path: PublisherHost, model: str, params: dict[str, Any], stream_id: str
    ) -> None:
        self.path = path
        self.model = model
        self.params = params
        self.stream_id = stream_id
        self.request_id = secrets.token_hex(4)
        self.started = time.time()
        self.session: IngestSession | None = None
        self.came = time.monotonic()
        self._base: int | None = None

    def unit(self, unit: AccessUnit) -> None:
        if self._base is None:
            self._base = self.path.clock(unit.arrival) - unit.pts
        self.path.unit(self, replace(unit, pts=unit.pts + self._base))

    def closed(self, reason: str) -> None:
        self.path.publisher_gone(self, reason)

    @property
    def heard(self) -> float:
        """When its last packet came, before the first one when it came itself (monotonic)."""
        last = self.session.statistics().last_arrival if self.session is not None else None
        return self.came if last is None else last
