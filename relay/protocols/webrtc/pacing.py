"""Pictures of many packets leave in parts, so that no viewer's line gets a burst it drops.

Parts go to all viewers alike, each in one call of the fan-out: pacing costs nothing a viewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relay.protocols.webrtc.fanout import FanOut, OutgoingTrack

AT_ONCE: Final = 64
"""Packets of a picture that leave at once: all of most pictures, and of most key frames."""

A_STEP: Final = 32
"""Packets of each step after that."""


class PacedFanOut:
    """Pictures, one at a time: what waits of one leaves before anything of the next.

    Attributes:
        waiting: whether ``pump`` has something to send.
    """

    __slots__ = ("_fan_out", "_rest", "_timestamp", "waiting")

    def __init__(self, fan_out: FanOut) -> None:
        self._fan_out = fan_out
        self._rest: Sequence[bytes] = ()
        self._timestamp = 0
        self.waiting = False

    def set(self, tracks: Sequence[OutgoingTrack]) -> list[OutgoingTrack]:
        """Who gets the pictures from now on: those before get the rest of theirs first.

        Returns:
            As all here: the tracks that it could not be sent on.
        """
        failed = self._send(len(self._rest))
        self._fan_out.set(tracks)
        return failed

    def frame(self, payloads: Sequence[bytes], timestamp: int) -> list[OutgoingTrack]:
        """Send the first part of a picture."""
        if not self.waiting and 0 < len(payloads) <= AT_ONCE:
            return self._fan_out.frame(payloads, timestamp, marker=True)
        failed = self._send(len(self._rest))
        self._rest, self._timestamp = payloads, timestamp
        return failed + self._send(AT_ONCE)

    def pump(self) -> list[OutgoingTrack]:
        """Send the next part."""
        return self._send(A_STEP)

    def _send(self, count: int) -> list[OutgoingTrack]:
        if not self._rest:
            return []
        part, self._rest = self._rest[:count], self._rest[count:]
        self.waiting = bool(self._rest)
        return self._fan_out.frame(part, self._timestamp, marker=not self._rest)
