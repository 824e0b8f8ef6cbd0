"""What came of one publisher, in figures."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

RATES_OVER: Final = 0.95
"""Seconds, at least, over which bits and pictures a second are told."""


@dataclass(frozen=True, slots=True)
class IngestStatistics:
    """What came of one publisher.

    Attributes:
        packets, lost: RTP, of both tracks; lost on the way, recovered or not.
        nacks: packets asked for again, each time counted.
        plis: key frames asked for.
        bitrate: bits a second of payload, over the last second or since the last look, if that is
            longer ago; five seconds at most.
        fps: pictures a second, likewise.
        width, height: of the last key frame, None before.
        jitter_ms: of the video, or of the audio where there is no video.
        last_arrival: ``time.monotonic()`` of the last packet, None before.
        keyframe_age: seconds since the last key frame, None before.
        malformed: packets that could not be read.
    """

    packets: int
    lost: int
    nacks: int
    plis: int
    bitrate: int
    fps: float
    width: int | None
    height: int | None
    jitter_ms: float
    last_arrival: float | None
    keyframe_age: float | None
    malformed: int


class Rates:
    """Bits and pictures a second since the last look, if that is a second ago; else as it was."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._octets = 0
        self._frames = 0
        self._last: tuple[int, float] | None = None

    def read(self, now: float, octets: int, frames: int) -> tuple[int, float]:
        span = now - self._at
        if span < RATES_OVER and self._last is not None:
            return self._last
        found = round((octets - self._octets) * 8 / max(0.001, span))
        rates = found, (frames - self._frames) / max(0.001, span)
        if span >= RATES_OVER:
            self._at, self._octets, self._frames, self._last = now, octets, frames, rates
        return rates
