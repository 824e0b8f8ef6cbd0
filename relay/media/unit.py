"""The access unit: the one noun that every protocol maps to and from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

VIDEO_CLOCK: Final = 90_000
"""Ticks a second of every presentation timestamp (ISO/IEC 13818-1, RFC 6184)."""


class Codec(StrEnum):
    H264 = "h264"
    OPUS = "opus"


_H264: Final = Codec.H264


@dataclass(init=False, slots=True)
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
        is_video: the codec is H.264.
    """

    codec: Final[Codec]
    payload: Final[bytes]
    pts: Final[int]
    arrival: Final[float]
    keyframe: Final[bool]
    is_video: bool = field(init=False, repr=False, compare=False)

    # Made, and asked, several times a picture: ``frozen`` would make it four times as dear to
    # make, a property twelve times to ask.
    def __init__(
        self, codec: Codec, payload: bytes, pts: int, arrival: float, keyframe: bool = False
    ) -> None:
        self.codec = codec
        self.payload = payload
        self.pts = pts
        self.arrival = arrival
        self.keyframe = keyframe
        self.is_video = codec is _H264

    def at(self, pts: int) -> AccessUnit:
        """The same at another time."""
        if pts == self.pts:
            return self
        return AccessUnit(self.codec, self.payload, pts, self.arrival, self.keyframe)
