"""The access unit: the one noun that every protocol maps to and from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

VIDEO_CLOCK: Final = 90_000
"""Ticks a second of every presentation timestamp (ISO/IEC 13818-1, RFC 6184)."""


class Codec(StrEnum):
    H264 = "h264"
    OPUS = "opus"


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """One encoded picture, or one encoded audio packet.

    Attributes:
        codec: what the payload is.
        payload: H.264: a whole access unit in Annex B form, 4-byte start codes,
            no access unit delimiter. Opus: one packet (RFC 6716), bare.
        pts: presentation timestamp in 1/90000 s, for audio too. Unwrapped: it
            never runs over, and may start anywhere.
        arrival: ``time.monotonic()`` seconds when its last byte reached this process.
        keyframe: H.264: it holds an IDR slice. Audio: always False.
    """

    codec: Codec
    payload: bytes
    pts: int
    arrival: float
    keyframe: bool = False

    @property
    def is_video(self) -> bool:
        return self.codec is Codec.H264

    def at(self, pts: int) -> AccessUnit:
        """The same at another time: once a picture and more, so without ``replace``."""
        return AccessUnit(self.codec, self.payload, pts, self.arrival, self.keyframe)
