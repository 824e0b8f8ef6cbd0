"""Sound through PyAV: anything a decoder gives becomes Opus packets of 20 ms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from relay.errors import BadInput
from relay.media.unit import VIDEO_CLOCK, AccessUnit, Codec

SAMPLE_RATE: Final = 48_000
PACKET_SAMPLES: Final = 960
"""20 ms, as browsers send."""
PACKET_TICKS: Final = PACKET_SAMPLES * VIDEO_CLOCK // SAMPLE_RATE


class OpusEncoder:
    """Frames of sound, of any rate and layout, to Opus at 48 kHz.

    Presentation times count from ``start`` without a gap, as the samples do.

    Args:
        start: the first packet's time, 1/90000 s.
        layout: ``mono`` or ``stereo``.
        bitrate: bits a second.
    """

    def __init__(self, start: int = 0, *, layout: str = "stereo", bitrate: int = 96_000) -> None:
        self._pts = start
        self._resampler = av.AudioResampler("s16", layout, SAMPLE_RATE, PACKET_SAMPLES)
        context = av.CodecContext.create("libopus", "w")
        context.sample_rate = SAMPLE_RATE
        context.layout = layout
        context.format = "s16"
        context.bit_rate = bitrate
        context.options = {"application": "audio", "frame_duration": "20"}
        self._context = context

    def encode(self, frame: av.AudioFrame | None) -> list[AccessUnit]:
        """
        Args:
            frame: the next sound; None at the end brings out what is left.

        Raises:
            BadInput: sound that cannot be resampled or encoded.
        """
        try:
            frames = self._resampler.resample(frame)
            units = [unit for piece in frames for unit in self._packets(piece)]
        except (FFmpegError, ValueError) as error:
            raise BadInput(f"the sound cannot be encoded: {error}") from error
        return units

    def _packets(self, piece: av.AudioFrame | None) -> Iterator[AccessUnit]:
        if piece is not None and piece.samples < PACKET_SAMPLES:
            return  # the last piece of a file; an encoder takes whole packets only
        for packet in self._context.encode(piece):
            yield AccessUnit(Codec.OPUS, bytes(packet), self._pts, 0.0)
            self._pts += PACKET_TICKS


def opus_of(
    samples: Iterable[NDArray[np.int16]], *, start: int = 0, layout: str = "mono"
) -> list[AccessUnit]:
    """Pieces of interleaved 48 kHz samples, each of shape (n,), as Opus packets."""
    encoder = OpusEncoder(start, layout=layout, bitrate=64_000)
    units: list[AccessUnit] = []
    for piece in samples:
        frame = av.AudioFrame.from_ndarray(piece[None, :], format="s16", layout=layout)
        frame.sample_rate = SAMPLE_RATE
        units += encoder.encode(frame)
    return units
