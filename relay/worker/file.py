"""Media files as access units, and access units as files.

What WebRTC can carry goes through untouched: H.264 without reordering and with a key
frame every few seconds, and Opus. Anything else is transcoded.
"""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from relay.errors import BadInput
from relay.media.h264 import AUD, is_keyframe, join_annexb, nal_type, split_annexb
from relay.media.mpegts import Muxer
from relay.media.unit import VIDEO_CLOCK, AccessUnit, Codec
from relay.worker.audio import OpusEncoder
from relay.worker.codec import TIME_BASE, Encoder, Format, Picture

MAX_KEYFRAME_GAP: Final = 4.0
"""Seconds; a file with fewer key frames makes viewers and segments wait, so it is transcoded."""
LOOKED_AT: Final = 20.0
"""Seconds of the file that are looked at to tell whether it can go untouched."""
FAR: Final = 10
"""Seconds; a track that begins later than that after another is on a clock of its own."""
ORDER_WINDOW: Final = VIDEO_CLOCK // 2
MAX_HELD: Final = 1000


class FileSource:
    """A file's access units in the order of their time, which starts at 0.

    Args:
        path: anything that FFmpeg reads.
        bitrate: bits a second of the picture, where it is transcoded.
        keyframe_interval: seconds between key frames, where it is transcoded.

    Raises:
        BadInput: no file, or no picture in it.
    """

    def __init__(
        self, path: Path, *, bitrate: int = 2_500_000, keyframe_interval: float = 2.0
    ) -> None:
        self._path = path
        self._bitrate = bitrate
        self._interval = keyframe_interval
        self._encoder: Encoder | None = None
        with _opened(path) as container:
            if not container.streams.video:
                raise BadInput(f"{path} holds no picture")
            self.has_audio = bool(container.streams.audio)
            self.copies_audio = self.has_audio and (
                container.streams.audio[0].codec_context.name in ("opus", "libopus")
            )
            self.copies_video = _can_go_untouched(container)

    def request_keyframe(self) -> None:
        """Make the next picture a key frame, where the picture is transcoded."""
        if self._encoder is not None:
            self._encoder.request_keyframe()

    def units(self) -> Iterator[AccessUnit]:
        """One pass over the file; ``arrival`` is 0 in all of them.

        Raises:
            BadInput: the file breaks off in a way that FFmpeg does not forgive.
        """
        return _in_order(self._unordered())

    def _unordered(self) -> Iterator[AccessUnit]:
        with _opened(self._path) as container:
            video = container.streams.video[0]
            streams = [video, *container.streams.audio[:1]]
            origin = _start(streams)
            readers = {video.index: self._video(video, _own(video, origin))}
            if self.has_audio:
                audio = container.streams.audio[0]
                readers[audio.index] = self._audio(audio, _own(audio, origin))
            try:
                for packet in container.demux(streams):
                    yield from readers[packet.stream.index].read(packet)
            except FFmpegError as error:
                raise BadInput(f"{self._path}: {error.strerror}") from error

    def _video(self, stream: Any, origin: Fraction) -> _Reader:
        if self.copies_video:
            return _CopiedVideo(stream, origin)
        self._encoder = Encoder(self._bitrate, self._interval)
        return _MadeVideo(origin, self._encoder)

    def _audio(self, stream: Any, origin: Fraction) -> _Reader:
        return _CopiedAudio(origin) if self.copies_audio else _MadeAudio(origin)


class _Reader:
    """Packets of one stream to access units."""

    def __init__(self, origin: Fraction) -> None:
        self._origin = origin

    def read(self, packet: av.Packet[Any]) -> Iterator[AccessUnit]:
        raise NotImplementedError

    def ticks(self, pts: int, time_base: Fraction | None) -> int:
        return round((pts * (time_base or TIME_BASE) - self._origin) * VIDEO_CLOCK)


class _CopiedVideo(_Reader):
    def __init__(self, stream: Any, origin: Fraction) -> None:
        super().__init__(origin)
        self._to_annexb = av.BitStreamFilterContext("h264_mp4toannexb", stream)

    def read(self, packet: av.Packet[Any]) -> Iterator[AccessUnit]:
        if packet.pts is None:  # the end of the stream
            return
        pts = self.ticks(packet.pts, packet.time_base)
        for filtered in self._to_annexb.filter(packet):
            nals = [nal for nal in split_annexb(bytes(filtered)) if nal_type(nal) != AUD]
            if nals:
                payload = join_annexb(nals)
                yield AccessUnit(Codec.H264, payload, pts, 0.0, keyframe=is_keyframe(payload))


class _MadeVideo(_Reader):
    def __init__(self, origin: Fraction, encoder: Encoder) -> None:
        super().__init__(origin)
        self._encoder = encoder

    def read(self, packet: av.Packet[Any]) -> Iterator[AccessUnit]:
        for frame in packet.decode():
            if not isinstance(frame, av.VideoFrame) or frame.pts is None:
                continue
            pts = self.ticks(frame.pts, frame.time_base)
            unit = self._encoder.encode(Picture(frame, pts, 0.0))
            if unit is not None:
                yield AccessUnit(unit.codec, unit.payload, pts, 0.0, keyframe=unit.keyframe)


class _CopiedAudio(_Reader):
    def read(self, packet: av.Packet[Any]) -> Iterator[AccessUnit]:
        if packet.pts is not None and packet.size:
            pts = self.ticks(packet.pts, packet.time_base)
            yield AccessUnit(Codec.OPUS, bytes(packet), pts, 0.0)


class _MadeAudio(_Reader):
    def __init__(self, origin: Fraction) -> None:
        super().__init__(origin)
        self._encoder: OpusEncoder | None = None

    def read(self, packet: av.Packet[Any]) -> Iterator[AccessUnit]:
        for frame in packet.decode():
            if not isinstance(frame, av.AudioFrame):
                continue
            if self._encoder is None:
                start = 0 if frame.pts is None else self.ticks(frame.pts, frame.time_base)
                self._encoder = OpusEncoder(start)
            yield from self._encoder.encode(frame)


def _opened(path: Path) -> Any:
    try:
        return av.open(str(path))
    except (FFmpegError, OSError) as error:
        raise BadInput(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from error


def _start(streams: Sequence[Any]) -> Fraction:
    """The earliest moment of the streams, in seconds."""
    starts = [
        stream.start_time * stream.time_base for stream in streams if stream.start_time is not None
    ]
    return min(starts, default=Fraction(0))


def _own(stream: Any, origin: Fraction) -> Fraction:
    """Where ``stream`` begins: with the others, unless that would keep them waiting."""
    start = _start([stream])
    return start if start - origin > FAR else origin


def _can_go_untouched(container: Any) -> bool:
    stream = container.streams.video[0]
    context = stream.codec_context
    if context.name != "h264" or context.pix_fmt not in ("yuv420p", "yuvj420p"):
        return False
    last_key: float | None = None
    for packet in container.demux(stream):
        if packet.pts is None:
            continue
        if packet.pts != packet.dts:
            return False
        now = float(packet.pts * packet.time_base)
        if packet.is_keyframe:
            last_key = now
        elif last_key is None or now - last_key > MAX_KEYFRAME_GAP:
            return False
        if now - float(_start([stream])) > LOOKED_AT:
            break
    return last_key is not None


def _in_order(units: Iterable[AccessUnit]) -> Iterator[AccessUnit]:
    """Sorted by time, looking at most half a second ahead."""
    held: list[tuple[int, int, AccessUnit]] = []
    numbers = count()
    newest = -(1 << 62)
    for unit in units:
        heapq.heappush(held, (unit.pts, next(numbers), unit))
        newest = max(newest, unit.pts)
        while held and (newest - held[0][0] > ORDER_WINDOW or len(held) > MAX_HELD):
            yield heapq.heappop(held)[2]
    while held:
        yield heapq.heappop(held)[2]


def picture_of(array: NDArray[np.uint8], made: Format, pts: int) -> Picture:
    """An array (see ``Picture.to_array``) as a picture for the encoder."""
    return Picture(av.VideoFrame.from_ndarray(array, made), pts, 0.0)


def write_file(path: Path, units: Sequence[AccessUnit]) -> None:
    """Write access units into a container named by the path's suffix (mp4, mkv, ts).

    Raises:
        BadInput: nothing to write, or a container that does not take them.
    """
    first = next((i for i, unit in enumerate(units) if unit.keyframe), None)
    if first is None:
        raise BadInput("no key frame to begin a file with")
    kept = units[first:]
    muxer = Muxer(audio=any(not unit.is_video for unit in kept))
    stream = b"".join([muxer.tables(), *(muxer.write(unit) for unit in kept)])
    try:
        source: Any = av.open(io.BytesIO(stream), format="mpegts")
        with source, av.open(str(path), "w") as out:
            copies = {s.index: out.add_stream_from_template(s) for s in source.streams}
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = copies[packet.stream.index]
                    out.mux(packet)
    except (FFmpegError, OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be written: {error}") from error
