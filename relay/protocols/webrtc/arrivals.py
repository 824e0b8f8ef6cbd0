"""Transport-wide feedback to one publisher: what has arrived when, told soon."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Final

from relay.protocols.webrtc.congestion import INTERVAL, FeedbackBuilder
from relay.protocols.webrtc.rtp import RtpPacket, transport_sequence

AT_ONCE: Final = 200
"""Arrivals that do not wait for the interval."""


class Arrivals:
    """
    Attributes:
        due_at: when to ``tell``.
    """

    def __init__(self, ssrc: int, extension: int | None, send: Callable[[bytes], None]) -> None:
        """
        Args:
            ssrc: our own, as the sender of feedback.
            extension: identifier of the header extension; None: it was not agreed.
            send: takes a feedback packet.
        """
        self.extension = extension
        self._builder = FeedbackBuilder(ssrc)
        self._send = send
        self.due_at = inf

    @property
    def pending(self) -> int:
        """Arrivals that wait to be told."""
        return self._builder.pending

    def note(self, packet: RtpPacket, now: float) -> None:
        if self.extension is None:
            return
        sequence = transport_sequence(packet, self.extension)
        if sequence is not None:
            self._builder.arrived(sequence, packet.ssrc, now)
            self._plan(now)

    def take(self, found: Iterable[tuple[float, int]], media: int, now: float) -> None:
        """Note packets of one SSRC that were seen elsewhere: arrival, sequence number."""
        for arrival, sequence in found:
            self._builder.arrived(sequence, media, arrival)
        self._plan(now)

    def _plan(self, now: float) -> None:
        pending = self._builder.pending
        if pending >= AT_ONCE:
            self.tell()
        elif pending and self.due_at == inf:
            self.due_at = now + INTERVAL

    def tell(self) -> None:
        self.due_at = inf
        for feedback in self._builder.build():
            self._send(feedback.serialise())
