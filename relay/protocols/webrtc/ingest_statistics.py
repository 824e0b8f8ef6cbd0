"""What came of one publisher, in figures."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IngestStatistics:
    """What came of one publisher.

    Attributes:
        packets, lost: RTP, of both tracks; lost on the way, recovered or not.
        nacks: packets asked for again, each time counted.
        plis: key frames asked for.
        bitrate: bits a second of payload, over the last second.
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
    """Bits and pictures a second, over about the last second."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._octets = 0
        self._frames = 0
        self._last: tuple[int, float] | None = None

    def sample(self, now: float, octets: int, frames: int) -> None:
        self._last = self._since(now, octets, frames)
        self._at, self._octets, self._frames = now, octets, frames

    def read(self, now: float, octets: int, frames: int) -> tuple[int, float]:
        return self._since(now, octets, frames) if self._last is None else self._last

    def _since(self, now: float, octets: int, frames: int) -> tuple[int, float]:
        span = max(0.001, now - self._at)
        return round((octets - self._octets) * 8 / span), (frames - self._frames) / span
