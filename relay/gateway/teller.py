"""Tells the events of one stream start, each at most as often as it means something."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from relay.gateway import journal
from relay.gateway.journal import Seller, Subject, Tell
from relay.market.offer import Offer
from relay.rpc.events import Event

FEW: Final = 3
"""Output segments after which a stream counts as running."""
MEASURES: Final = 5.0
"""Seconds between two measures of ingest."""


class Teller:
    """
    Args:
        subject: whose events these are; the pipeline may change under way.
        tell: who hears them.
    """

    def __init__(self, subject: Subject, tell: Tell) -> None:
        self.subject = subject
        self._tell = tell
        self._by = journal.NOBODY
        self._sent = False
        self._segments = 0
        self._searching = False
        self._closed = False
        self._measured = time.monotonic()

    def _trace(self, kind: str, by: Seller = journal.NOBODY) -> None:
        self._tell(journal.trace(kind, self.subject, _now(), by))

    def arrived(self) -> None:
        self._trace("gateway_receive_stream_request")

    def closed(self, reason: str) -> None:
        """The publisher is gone; said once."""
        if not self._closed:
            self._closed = True
            self.failed(reason)
            self._trace("gateway_ingest_stream_closed")

    def failed(self, message: str) -> None:
        self._tell(journal.error(self.subject, message))

    def nobody(self) -> None:
        """No orchestrator can be had; said once for each search."""
        if not self._searching:
            self._searching = True
            self._trace("gateway_no_orchestrators_available")

    def served(self, offer: Offer) -> None:
        """A job began at whose offer this is."""
        subject, model = self.subject, offer.model
        self.subject = Subject(subject.stream_id, subject.request_id, model, subject.pipeline_id)
        self._by = Seller(offer.transcoder, offer.address)
        self._sent, self._segments, self._searching = False, 0, False

    def progress(self, *, sent: bool, segments: int) -> None:
        """
        Args:
            sent: media has gone to the orchestrator.
            segments: whole output segments that came back.
        """
        before, self._segments = self._segments, segments
        if sent and not self._sent:
            self._sent = True
            self._trace("gateway_send_first_ingest_segment", self._by)
        if before < 1 <= segments:
            self._trace("gateway_receive_first_processed_segment", self._by)
        if before < FEW <= segments:
            self._trace("gateway_receive_few_processed_segments", self._by)

    def swapped(self, offer: Offer, message: str) -> None:
        """The job leaves whose offer this is, who may have refused before it began."""
        self.failed(message)
        by = Seller(offer.transcoder, offer.address)
        self._tell(journal.swap(self.subject, _now(), by, message))

    def params(self, params: Mapping[str, Any]) -> None:
        self._tell(journal.params_update(self.subject, params, self._by))

    def heard(self, event: Event) -> None:
        self._tell(journal.forwarded(self.subject, event.topic, event.body, self._by))

    def measure_due(self, now: float) -> bool:
        """Whether measures of ingest are to be told now (monotonic)."""
        if now - self._measured < MEASURES:
            return False
        self._measured = now
        return True

    def measured(self, stats: Mapping[str, Any]) -> None:
        self._tell(journal.ingest_metrics(self.subject, _now(), stats))


def _now() -> int:
    return int(time.time() * 1000)
