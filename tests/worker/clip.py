"""Small clips made on the spot, for the worker's tests."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np

from relay.media.unit import AccessUnit, Codec
from relay.worker.codec import Encoder, Frame, Picture

STEP = 3000
"""Ticks of 1/90000 s between two frames at 30 frames a second."""


def pattern(width: int, height: int, number: int) -> Frame:
    """A yuv420p frame whose luma moves with its number, and whose colour names the corner."""
    frame = np.full((height * 3 // 2, width), 128, np.uint8)
    columns = np.arange(width, dtype=np.uint32) * 2 + number * 7
    rows = np.arange(height, dtype=np.uint32)[:, None]
    frame[:height] = 40 + (columns + rows) % 160
    return frame


def picture(width: int, height: int, number: int, pts: int | None = None) -> Picture:
    frame = av.VideoFrame.from_ndarray(pattern(width, height, number), "yuv420p")
    return Picture(frame, number * STEP if pts is None else pts, 0.0)


def flat(width: int, height: int, luma: int, pts: int) -> Picture:
    array = np.full((height * 3 // 2, width), 128, np.uint8)
    array[:height] = luma
    return Picture(av.VideoFrame.from_ndarray(array, "yuv420p"), pts, 0.0)


def encoded(
    pictures: Iterator[Picture] | list[Picture], *, keyframe_interval: float = 1.0
) -> list[AccessUnit]:
    encoder = Encoder(1_000_000, keyframe_interval)
    units = [encoder.encode(each) for each in pictures]
    return [unit for unit in units if unit is not None]


def video(
    width: int = 160,
    height: int = 96,
    frames: int = 30,
    *,
    start: int = 0,
    keyframe_interval: float = 1.0,
) -> list[AccessUnit]:
    return encoded(
        [picture(width, height, number, start + number * STEP) for number in range(frames)],
        keyframe_interval=keyframe_interval,
    )


def foreign(pix_fmt: str, profile: str, width: int = 64, height: int = 48) -> bytes:
    """A key frame in a pixel format that our own encoder does not make."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = width, height, pix_fmt
    context.time_base = Fraction(1, 90_000)
    context.options = {"preset": "ultrafast", "tune": "zerolatency", "profile": profile}
    frame = av.VideoFrame(width, height, pix_fmt)
    for plane in frame.planes:
        plane.update(bytes([90]) * plane.buffer_size)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in context.encode(frame))


def opus(pts: int, marker: int) -> AccessUnit:
    """A 20 ms Opus packet (RFC 6716, CELT, mono) that carries a number where audio would be."""
    return AccessUnit(Codec.OPUS, bytes([0xF8]) + marker.to_bytes(4, "big") + b"\0" * 20, pts, 0.0)
