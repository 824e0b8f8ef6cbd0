"""What a publisher's path carries, for publishers that cannot find out themselves.

Where transport-wide feedback is negotiated the sender estimates; where only REMB is, the
receiver does, from the timestamps that pictures carry and the times at which they come.
Pure: ``now`` comes in.
"""

from __future__ import annotations

from math import inf
from typing import Final

from relay.media.unit import VIDEO_CLOCK
from relay.protocols.webrtc.estimate import Estimator
from relay.protocols.webrtc.rtp import RtpPacket

INTERVAL: Final = 1.0
"""Seconds between two messages while the estimate falls little."""

FALLEN: Final = 0.97
"""Of the estimate told last: below it the next is told at once."""

AT_ONCE: Final = 0.2
"""Seconds between two messages at least."""

START: Final = 2_500_000.0
"""Bits a second that a publisher may begin with."""


class ReceiverEstimate:
    """One publisher's video."""

    __slots__ = ("_came", "_estimator", "_octets", "_timestamp", "_told", "_told_at")

    def __init__(self) -> None:
        self._told = inf
        self._told_at = -inf
        self._begin()

    def _begin(self) -> None:
        self._estimator = Estimator(START)
        self._timestamp: int | None = None  # of the picture that comes in, not wrapped
        self._came = 0.0
        self._octets = 0

    @property
    def bitrate(self) -> int:
        return round(self._estimator.bitrate)

    def arrived(self, timestamp: int, octets: int, now: float) -> None:
        """Note a packet of the video.

        Args:
            timestamp: as in the packet, 32 bits.
        """
        last = self._timestamp
        if last is None:
            self._timestamp = timestamp
        else:
            step = ((timestamp - last + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
            if abs(step) > 10 * VIDEO_CLOCK:
                self._begin()  # another encoder
                self._timestamp = timestamp
            elif step > 0:
                sent = last / VIDEO_CLOCK
                # Losses are known from the reports.
                self._estimator.sample(sent, self._came, self._octets, 0, 0, now)
                self._timestamp = last + step
                self._octets = 0
            elif step < 0:
                return  # late, or sent again
        self._came = now
        self._octets += octets

    def takes(self, packet: RtpPacket, now: float) -> bool:
        """Take in a packet that has arrived; whether the sender is to be told now."""
        self.arrived(packet.timestamp, len(packet.payload), now)
        if not self.due(now):
            return False
        self.told(now)
        return True

    def lost(self, fraction: float, now: float) -> None:
        """That share of the packets was lost since the last report."""
        self._estimator.losses(fraction, now)

    def due(self, now: float) -> bool:
        """Whether the publisher is to be told ``bitrate`` now; ``told`` follows."""
        if self._timestamp is None or now < self._told_at + AT_ONCE:
            return False
        return now >= self._told_at + INTERVAL or self.bitrate < FALLEN * self._told

    def told(self, now: float) -> None:
        self._told, self._told_at = self.bitrate, now
