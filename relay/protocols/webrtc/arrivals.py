"""Transport-wide feedback to one publisher: what has arrived when, told soon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from relay.protocols.webrtc.congestion import INTERVAL, FeedbackBuilder
from relay.protocols.webrtc.rtp import RtpPacket, transport_sequence

AT_ONCE: Final = 200
"""Arrivals that do not wait for the interval."""
OLD: Final = 0.03
"""Seconds after which those that were seen elsewhere are told with the next of them: a picture
wakes the process in any case, a timer does so once more."""
LATEST: Final = 0.1
"""The same where no next one comes."""


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
        self._oldest = inf
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

    def take(self, found: Sequence[tuple[float, int]], media: int, now: float) -> None:
        """Note packets of one SSRC that were seen elsewhere: arrival, sequence number."""
        if not found:
            return
        for arrival, sequence in found:
            self._builder.arrived(sequence, media, arrival)
        self._oldest = min(self._oldest, found[0][0])
        if now - self._oldest >= OLD:
            self.tell()
        else:
            self._plan(now, LATEST)

    def _plan(self, now: float, interval: float = INTERVAL) -> None:
        pending = self._builder.pending
        if pending >= AT_ONCE:
            self.tell()
        elif pending and self.due_at == inf:
            self.due_at = now + interval

    def tell(self) -> None:
        self.due_at = self._oldest = inf
        for feedback in self._builder.build():
            self._send(feedback.serialise())
