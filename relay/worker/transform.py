"""One job's frames: decode, run the pipeline on the newest, encode. No thread, no loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.errors import BadInput, ParseError
from relay.media.unit import AccessUnit
from relay.worker.codec import Decoder, Encoder, Picture
from relay.worker.loader import LoadedPipeline, PipelineFailed


@dataclass(slots=True)
class TransformCounts:
    """Written by the media thread, read by the loop: whole numbers, no lock.

    Attributes:
        decoded: pictures that came out of the decoder.
        undecodable: access units that the decoder refused.
        skipped: pictures left out because a newer one was there.
        failed: pictures that the pipeline raised on.
        encoded: access units sent on.
        failing_since: clock of the first failure since the last success, or None.
    """

    decoded: int = 0
    undecodable: int = 0
    skipped: int = 0
    failed: int = 0
    encoded: int = 0
    failing_since: float | None = None


class Transform:
    """
    Args:
        on_error: called with a reason, in the thread that calls ``run``.
        on_step: called before each step that may hang.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        pipeline: LoadedPipeline,
        encoder: Encoder,
        *,
        on_error: Callable[[str], None],
        on_step: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._pipeline = pipeline
        self._encoder = encoder
        self._decoder = Decoder()
        self._on_error = on_error
        self._on_step = on_step
        self._clock = clock
        self.counts = TransformCounts()

    def request_keyframe(self) -> None:
        self._encoder.request_keyframe()

    def run(self, units: Sequence[AccessUnit]) -> AccessUnit | None:
        """Decode all of them, since each refers to the one before; show only the newest.

        Returns:
            The newest picture as the pipeline made it, or None: nothing decoded, the
            pipeline raised (a frame it did not change is never sent in its place), or
            the picture is older than the last one.
        """
        counts = self.counts
        newest: Picture | None = None
        for unit in units:
            self._on_step()
            try:
                pictures = self._decoder.decode(unit)
            except ParseError as error:
                counts.undecodable += 1
                self._on_error(str(error))
                continue
            for picture in pictures:
                counts.decoded += 1
                counts.skipped += newest is not None
                newest = picture
        if newest is None:
            return None
        self._on_step()
        try:
            result = self._encoder.encode(self._changed(newest))
        except (PipelineFailed, BadInput) as error:
            counts.failed += 1
            if counts.failing_since is None:
                counts.failing_since = self._clock()
            self._on_error(str(error))
            return None
        counts.failing_since = None
        if result is None:
            counts.skipped += 1
        else:
            counts.encoded += 1
        return result

    def _changed(self, picture: Picture) -> Picture:
        pipeline = self._pipeline
        width, height = picture.size
        source = (width & ~1, height & ~1)
        wanted = pipeline.wanted_size(source)
        frame = picture.to_array(pipeline.format, wanted)
        result = pipeline.process(frame, picture.pts)
        self._on_step()
        if result is frame and wanted == source:
            return picture
        return picture.replaced(result, pipeline.format, pipeline.result_size(source))
