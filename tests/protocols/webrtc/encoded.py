"""A few pictures of real H.264, and a look into what comes back."""

from __future__ import annotations

from fractions import Fraction

import av

WIDTH, HEIGHT = 320, 240


def pictures(count: int, *, keyframe_every: int = 1000) -> list[tuple[bytes, bool]]:
    """Access units whose brightness rises from picture to picture, and whether each is an IDR."""
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height = WIDTH, HEIGHT
    context.pix_fmt = "yuv420p"
    context.time_base = Fraction(1, 30)
    context.thread_count = 1
    context.gop_size = keyframe_every
    context.options = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}
    made: list[tuple[bytes, bool]] = []
    for number in range(count):
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([16 + number % 200]) * plane.buffer_size)
        frame.pts = number
        made += [(bytes(packet), packet.is_keyframe) for packet in context.encode(frame)]
    assert len(made) == count
    return made
