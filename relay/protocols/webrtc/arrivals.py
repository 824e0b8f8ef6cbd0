"""Transport-wide feedback to one publisher: what has arrived when, told soon."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from relay.protocols.webrtc.congestion import INTERVAL, FeedbackBuilder
from relay.protocols.webrtc.native_lane import Lane
from relay.protocols.webrtc.rtp import RtpPacket, transport_sequence

AT_ONCE: Final = 200
"""Arrivals that do not wait for the interval."""


class Arrivals:
    """
    Attributes:
        lane: what native code receives; it notes the arrival of that itself, and writes the
            feedback about all as long as the numbers are without a hole.
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
        self.lane: Lane | None = None
        self._ssrc = ssrc
        self._builder = FeedbackBuilder(ssrc)
        self._send = send
        self.due_at = inf

    @property
    def pending(self) -> int:
        """Arrivals that wait to be told."""
        return self._builder.pending

    def note(self, packet: RtpPacket, now: float) -> None:
        """Note one that was read here."""
        if self.extension is None:
            return
        number = transport_sequence(packet, self.extension)
        if number is None:
            return
        if self.lane is not None:
            if self.lane.note(number, now):
                return
            self.lane.take_feedback()
        self._builder.arrived(number, packet.ssrc, now)
        if self._builder.pending >= AT_ONCE:
            self.tell()
        elif self.due_at == inf:
            self.due_at = now + INTERVAL

    def noted(self, media: int) -> None:
        """Tell of what waits in the lane, packets of one SSRC."""
        lane = self.lane
        if lane is None or self.extension is None:
            return
        if feedback := lane.feedback(self._ssrc):
            self._send(feedback)
            return
        lane.take_feedback()
        for arrival, number in lane.arrivals():
            self._builder.arrived(number, media, arrival)
        self.tell()
        lane.give_feedback(self._builder.standing)

    def told(self, untold: int, count: int) -> None:
        """The lane has told all up to there; see ``FeedbackBuilder.standing``."""
        self._builder.told(untold, count)

    def tell(self) -> None:
        self.due_at = inf
        for feedback in self._builder.build():
            self._send(feedback.serialise())
