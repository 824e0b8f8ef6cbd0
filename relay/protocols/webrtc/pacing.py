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

    __slots__ = ("_fan_out", "_next", "_rest", "_timestamp", "_tracks", "waiting")

    def __init__(self, fan_out: FanOut) -> None:
        self._fan_out = fan_out
        self._tracks: Sequence[OutgoingTrack] = ()  # who gets what waits
        self._next: Sequence[OutgoingTrack] | None = None  # and what comes then, if others do
        self._rest: Sequence[bytes] = ()
        self._timestamp = 0
        self.waiting = False

    def set(self, tracks: Sequence[OutgoingTrack]) -> None:
        """Who gets the pictures from now on; of one that waits only who had its beginning gets
        the rest, at its pace."""
        if not self.waiting:
            self._begin(tracks)
            return
        had = frozenset(self._tracks)
        self._begin([track for track in tracks if track in had])
        self._next = tracks

    def _begin(self, tracks: Sequence[OutgoingTrack]) -> None:
        self._tracks, self._next = tracks, None
        self._fan_out.set(tracks)

    def frame(self, payloads: Sequence[bytes], timestamp: int) -> list[OutgoingTrack]:
        """Send the first part of a picture.

        Returns:
            As all here: the tracks that it could not be sent on.
        """
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
        failed = self._fan_out.frame(part, self._timestamp, marker=not self._rest)
        if not self.waiting and self._next is not None:
            self._begin(self._next)
        return failed
