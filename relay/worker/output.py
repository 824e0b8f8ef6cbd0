"""A job's output: access units to segments of a trickle channel, each at once."""

from __future__ import annotations

from collections.abc import Callable

from relay.media.segmenter import Cut, Segmenter
from relay.media.unit import AccessUnit
from relay.protocols.trickle.publisher import TricklePublisher
from relay.protocols.trickle.upload import SegmentWriter


class Output:
    """Begins with the first key frame; audio before it is left out.

    Args:
        publisher: of the output channel; not closed here.
        on_keyframe_wanted: called when readers can only go on with a key frame.
    """

    def __init__(self, publisher: TricklePublisher, on_keyframe_wanted: Callable[[], None]) -> None:
        self._publisher = publisher
        self._on_keyframe_wanted = on_keyframe_wanted
        self._segmenter: Segmenter | None = None
        self._audio = False
        self._writer: SegmentWriter | None = None

    def has_audio(self) -> None:
        """The input lists audio. After the first segment this costs a key frame."""
        if self._audio:
            return
        self._audio = True
        if self._segmenter is not None:
            self._segmenter = None
            self._on_keyframe_wanted()

    def push(self, unit: AccessUnit, now: float) -> None:
        """Send one access unit.

        Raises:
            RelayError: the channel takes no more segments.
        """
        if self._segmenter is None:
            if not unit.is_video:
                return
            self._segmenter = Segmenter(audio=self._audio)
        for step in self._segmenter.push(unit, now):
            match step:
                case Cut():
                    self._finish()
                    self._writer = self._publisher.begin()
                case bytes(data) if self._writer is not None:
                    if not self._writer.write(data):
                        self._writer = None
                        self._segmenter.give_up(now)
                        self._on_keyframe_wanted()

    def end(self) -> None:
        """Nothing comes after this."""
        self._finish()

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.end()
            self._writer = None
