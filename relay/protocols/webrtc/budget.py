"""How many media packets of one peer are looked at, so that its flood delays nobody else."""

from __future__ import annotations

from typing import Final

RATE: Final = 10_000.0
"""Packets a second that are opened: about 100 Mbit/s of media."""
BURST: Final = 4000.0
"""Packets at once: more than the largest access unit has."""

REPORT_RATE: Final = 500.0
REPORT_BURST: Final = 500.0
"""The same of RTCP: who reports, asks and tells in one tells some fifty times a second."""

_MOST_SSRCS: Final = 8
"""Of one peer: picture, its retransmissions, sound; and those of an encoder before."""


class Budget:
    """Tokens, filled up only when they are used up: a subtraction a packet.

    In any t seconds no more than ``2 * burst + t * rate`` are taken. The native part counts
    in the same way (``native/receive.c``).
    """

    __slots__ = ("_burst", "_filled_at", "_rate", "_tokens")

    def __init__(self, now: float, rate: float = RATE, burst: float = BURST) -> None:
        self._rate, self._burst = rate, burst
        self._tokens = burst
        self._filled_at = now

    def take(self, now: float) -> bool:
        """Whether one more packet may be looked at."""
        if self._tokens < 1:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
            self._filled_at = now
            if self._tokens < 1:
                return False
        self._tokens -= 1
        return True

    @property
    def state(self) -> tuple[float, float]:
        """Tokens, and when they were filled up: for whoever counts on in the same way."""
        return self._tokens, self._filled_at

    @state.setter
    def state(self, state: tuple[float, float]) -> None:
        self._tokens, self._filled_at = state


class MediaBudget:
    """One budget for the SSRCs whose packets were authentic, and one for all others.

    Whoever sends in a peer's name, and has not seen its packets, does not know its SSRCs: what
    it sends uses up only what no media of that peer needs.
    """

    __slots__ = ("_known", "_others", "_ssrcs")

    def __init__(self, now: float) -> None:
        self._known, self._others = Budget(now), Budget(now)
        self._ssrcs: dict[bytes, None] = {}

    def take(self, packet: bytes, now: float) -> bool:
        """Whether one more packet, RTP or RTCP, may be looked at."""
        is_rtcp = len(packet) > 1 and 191 < packet[1] < 224
        ssrc = packet[4:8] if is_rtcp else packet[8:12]
        return (self._known if ssrc in self._ssrcs else self._others).take(now)

    def know(self, ssrc: bytes) -> None:
        """A packet of it, 4 bytes, was authentic; the last few are remembered."""
        if ssrc not in self._ssrcs:
            if len(self._ssrcs) >= _MOST_SSRCS:
                del self._ssrcs[next(iter(self._ssrcs))]
            self._ssrcs[ssrc] = None
