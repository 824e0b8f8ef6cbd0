"""Stands in, in the gateway, for the session of a publisher whom another process receives."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from relay.media.unit import AccessUnit
from relay.protocols.webrtc.ingest_sink import IngestSink, Nowhere
from relay.protocols.webrtc.ingest_statistics import IngestStatistics
from relay.protocols.webrtc.processes.session import Ask, FarSession, ServedSession


class PublisherSession(ServedSession, Protocol):
    """A publisher's session, wherever it is received; see ``IngestSession``."""

    @property
    def process(self) -> int: ...
    @property
    def has_video(self) -> bool: ...
    @property
    def has_audio(self) -> bool: ...

    def request_keyframe(self) -> None: ...
    def statistics(self) -> IngestStatistics: ...


class FarPublisher(FarSession):
    """A ``PublisherSession`` of another process.

    Args:
        sink: where its media goes.
        ask_keyframe: has the process ask for one.

    Attributes:
        number: by which its process speaks of it.
    """

    def __init__(
        self,
        reply: Mapping[str, Any],
        ask: Ask,
        process: int,
        number: int,
        sink: IngestSink,
        ask_keyframe: Callable[[], None],
    ) -> None:
        super().__init__(reply, ask, process)
        self.has_video: bool = reply["has_video"]
        self.has_audio: bool = reply["has_audio"]
        self.number = number
        self._sink: IngestSink = sink
        self._ask_keyframe = ask_keyframe
        self._statistics = IngestStatistics(0, 0, 0, 0, 0, 0.0, None, None, 0.0, None, None, 0)
        self._told_at = 0.0
        self._arrival: float | None = None

    def unit(self, unit: AccessUnit) -> None:
        """The next one, from its process."""
        self._arrival = unit.arrival
        self._sink.unit(unit)

    def told(self, fields: Mapping[str, Any], now: float) -> None:
        """What its process says of it.

        Raises:
            TypeError: these are no fields of ``IngestStatistics``.
        """
        self._statistics, self._told_at = IngestStatistics(**fields), now

    def statistics(self) -> IngestStatistics:
        """As its process last told, and as access units have come since."""
        told, since = self._statistics, time.monotonic() - self._told_at
        arrivals = [at for at in (told.last_arrival, self._arrival) if at is not None]
        return replace(
            told,
            last_arrival=max(arrivals, default=None),
            keyframe_age=None if told.keyframe_age is None else told.keyframe_age + since,
        )

    def request_keyframe(self) -> None:
        if not self.is_closed:
            self._ask_keyframe()

    def ended(self, reason: str) -> None:
        if self.is_closed:
            return
        super().ended(reason)
        sink, self._sink = self._sink, Nowhere()
        sink.closed(reason)
