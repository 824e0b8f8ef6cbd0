"""The one door to PyAV's codecs: H.264 in, pictures out, and back.

All options serve one end: a frame leaves in the call that brought it in. Nothing here
waits for a second frame, and nothing starts a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final, Literal

import av
import av.logging
import numpy as np
from av.codec.context import Flags
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from numpy.typing import NDArray

from relay.errors import BadInput, ParseError
from relay.media.unit import VIDEO_CLOCK, AccessUnit, Codec
from relay.worker.frame_rate import FrameRate

Frame = NDArray[np.uint8]
Format = Literal["rgb24", "yuv420p"]
Size = tuple[int, int]

MAX_PIXELS: Final = 4096 * 2304
"""Larger pictures are refused: one such frame is 14 MB, and its decoder holds several."""

TIME_BASE: Final = Fraction(1, VIDEO_CLOCK)
VBV_SECONDS: Final = 0.4
"""How far one picture may overdraw the bitrate; it keeps key frames from ballooning."""

REWIND: Final = VIDEO_CLOCK
"""A timestamp this far back is a source that began anew; less is a frame out of order."""


def quiet() -> None:
    """Keep the codecs from writing to standard error; what they refuse is raised anyway."""
    av.logging.set_level(None)


class Picture:
    """One decoded frame, converted only when somebody asks."""

    __slots__ = ("_frame", "arrival", "pts")

    def __init__(self, frame: av.VideoFrame, pts: int, arrival: float) -> None:
        self._frame = frame
        self.pts = pts
        self.arrival = arrival

    @property
    def size(self) -> Size:
        """(width, height)."""
        return self._frame.width, self._frame.height

    def to_array(self, wanted: Format, size: Size) -> Frame:
        """A read-only copy, contiguous: (h, w, 3) for rgb24, (h * 3 / 2, w) for yuv420p."""
        frame = self._frame
        if frame.format.name != wanted or self.size != size:
            frame = frame.reformat(width=size[0], height=size[1], format=wanted, threads=1)
        array: Frame = np.ascontiguousarray(frame.to_ndarray())
        array.flags.writeable = False
        return array

    def replaced(self, array: Frame, made: Format, size: Size | None = None) -> Picture:
        """The same moment with another content, in the colours of this source.

        Args:
            array: as ``to_array`` gives them, of any even size.
            made: the format that it is in.
            size: scaled to this (width, height), if given.
        """
        source = self._frame
        frame = av.VideoFrame.from_ndarray(array, made)
        width, height = size or (frame.width, frame.height)
        if made != "yuv420p":
            frame = frame.reformat(
                width=width,
                height=height,
                format="yuv420p",
                dst_colorspace=_MATRICES.get(source.colorspace),
                threads=1,
            )
        elif (width, height) != (frame.width, frame.height):
            frame = frame.reformat(width=width, height=height, threads=1)
        for name in _COLOURS:
            setattr(frame, name, getattr(source, name))
        return Picture(frame, self.pts, self.arrival)

    def encodable(self) -> av.VideoFrame:
        """The frame as the encoder takes it."""
        frame = self._frame
        width, height = frame.width & ~1, frame.height & ~1
        if frame.format.name != "yuv420p" or (width, height) != self.size:
            frame = frame.reformat(width=width, height=height, format="yuv420p", threads=1)
        return frame


_COLOURS: Final = ("colorspace", "color_range", "color_primaries", "color_trc")
_MATRICES: Final = {1: 1, 4: 4, 7: 7, 9: 9}
"""Matrices that are not BT.601, which is what the scaler takes when none is named."""


class Decoder:
    """H.264 access units to pictures, each in the call that brought its last byte."""

    def __init__(self) -> None:
        context = av.CodecContext.create("h264", "r")
        context.thread_count = 1
        context.flags |= Flags.low_delay
        context.options = {"max_pixels": str(MAX_PIXELS)}
        self._context = context

    def decode(self, unit: AccessUnit) -> list[Picture]:
        """
        Raises:
            ParseError: the decoder cannot make anything of it. It stays usable.
        """
        packet = av.Packet(unit.payload)
        packet.pts = packet.dts = unit.pts
        packet.time_base = TIME_BASE
        try:
            frames = self._context.decode(packet)
        except FFmpegError as error:
            raise ParseError(f"the decoder refused a frame: {error.strerror}") from error
        return [
            Picture(frame, unit.pts if frame.pts is None else frame.pts, unit.arrival)
            for frame in frames
        ]


class Encoder:
    """Pictures to H.264 access units: baseline, no reordering, headers in every key frame.

    A new size or new colours reopen it, which makes a key frame. It is also reopened when
    the frame rate has moved: rate control counts frames, not seconds, since looking at
    durations would cost it a frame of delay.

    Args:
        bitrate: bits a second.
        keyframe_interval: seconds of media between key frames.
    """

    def __init__(
        self,
        bitrate: int,
        keyframe_interval: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bitrate = bitrate
        self._interval = round(keyframe_interval * VIDEO_CLOCK)
        self._clock = clock
        self._context: VideoCodecContext | None = None
        self._key: tuple[Any, ...] = ()
        self._rate = FrameRate(bitrate)
        self._wanted = False
        self._last_pts = 0
        self._last_key = 0
        self.reopened = 0

    def request_keyframe(self) -> None:
        """The next picture becomes a key frame."""
        self._wanted = True

    def encode(self, picture: Picture) -> AccessUnit | None:
        """
        Returns:
            The access unit, or None for a picture older than the last one.

        Raises:
            BadInput: a picture that no encoder takes.
        """
        pts = picture.pts
        context = self._context
        if context is not None and pts <= self._last_pts:
            if self._last_pts - pts < REWIND:
                return None
            context = None
        frame = picture.encodable()
        key = (frame.width, frame.height, *(getattr(frame, name) for name in _COLOURS))
        if key != self._key:
            context = None
        due = self._wanted or pts - self._last_key >= self._interval
        if context is not None and self._rate.moved(pts, due=due):
            context = None
        try:
            if context is None:
                self._rate.begin()
                context = self._open(frame, key)
                due = True
            frame.pts = pts
            frame.time_base = TIME_BASE
            frame.pict_type = PictureType.I if due else PictureType.NONE
            payload = b"".join(bytes(packet) for packet in context.encode(frame))
        except FFmpegError as error:
            self._context = None
            raise BadInput(f"the encoder refused a picture: {error.strerror}") from error
        if due:
            self._wanted = False
            self._last_key = pts
        self._last_pts = pts
        self._rate.sent(pts, len(payload), keyframe=due)
        return AccessUnit(Codec.H264, payload, pts, self._clock(), keyframe=due)

    def _open(self, frame: av.VideoFrame, key: tuple[Any, ...]) -> VideoCodecContext:
        context = av.CodecContext.create("libx264", "w")
        context.width, context.height = frame.width, frame.height
        context.pix_fmt = "yuv420p"
        context.time_base = TIME_BASE
        context.framerate = Fraction(round(self._rate.planned * 100), 100)
        context.bit_rate = self._bitrate
        context.gop_size = 100_000
        context.max_b_frames = 0
        context.thread_count = 1
        for name in _COLOURS:
            setattr(context, name, getattr(frame, name))
        context.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "profile": "baseline",
            "forced-idr": "1",
            "maxrate": str(self._bitrate),
            "bufsize": str(round(self._bitrate * VBV_SECONDS)),
        }
        if self._context is not None:
            self.reopened += 1
        self._context, self._key = context, key
        return context
