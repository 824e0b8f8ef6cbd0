"""Access units to MPEG-TS segments: a cut in a flow, not a file to wait for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from relay.media.mpegts import Muxer
from relay.media.unit import VIDEO_CLOCK, AccessUnit

MAX_SEGMENT_SECONDS: Final = 240.0
"""Receivers sweep a channel that saw no new segment for 5 minutes (live-ai.md 2.6)."""

MAX_SEGMENT_BYTES: Final = 64 << 20

MAX_AGE: Final = 0.5
"""Seconds that media may wait for a slow connection, and that its reader may lie behind a newer
segment; then the rest is dropped up to the next key frame."""

ASK_AGAIN: Final = 0.5
"""Seconds between two requests for a key frame."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The segment before, if there is one, ends here; segment ``sequence`` begins."""

    sequence: int


class Segmenter:
    """Cuts at a key frame once the segment is long enough, by wall clock and by pts.

    Nothing comes out before the first key frame. PAT and PMT stand at each cut; timestamps
    and continuity counters run on over cuts.

    Args:
        audio: the program lists Opus; audio units are left out otherwise.
        min_duration: seconds that a segment lasts at least.
        keyframe_interval: seconds after a key frame until another one is asked for.
        first_sequence: number of the first segment.
    """

    def __init__(
        self,
        *,
        audio: bool,
        min_duration: float = 1.0,
        keyframe_interval: float = 2.0,
        first_sequence: int = 0,
    ) -> None:
        self._muxer = Muxer(audio=audio)
        self._write_picture = self._muxer.write_picture
        self._write_sound = self._muxer.write_sound
        self._audio = audio
        self._min_duration = min_duration
        self._keyframe_interval = keyframe_interval
        self._next_sequence = first_sequence
        self._cut: tuple[float, int] | None = None  # when, and at which pts
        self._latest = 0.0  # when it ends at the latest
        self._size = 0
        self.asks_at = 0.0
        """``keyframe_due`` is false before."""

    def push(self, unit: AccessUnit, now: float) -> list[Cut | bytes]:
        """Take one access unit and give what is to be sent for it, at once: bytes are whole
        packets of the segment that the last Cut began."""
        if unit.keyframe:
            self.asks_at = max(self.asks_at, now + self._keyframe_interval)
        elif not unit.is_video and not self._audio:
            return []
        if (
            unit.keyframe or now >= self._latest or self._size >= MAX_SEGMENT_BYTES
        ) and self._cut_here(unit, now):
            cut = Cut(self._next_sequence)
            self._next_sequence += 1
            self._cut = (now, unit.pts)
            self._latest = now + MAX_SEGMENT_SECONDS
            data = self._muxer.write(unit, self._muxer.tables())
            self._size = len(data)
            return [cut, data]
        if self._cut is None:
            return []
        if unit.is_video and self._write_picture is not None:
            data = self._write_picture(unit.payload, unit.pts, unit.keyframe)
        elif not unit.is_video and self._write_sound is not None:
            data = self._write_sound(unit.payload, unit.pts)
        else:
            data = self._muxer.write(unit)
        self._size += len(data)
        return [data]

    def give_up(self, now: float) -> None:
        """What came last cannot be sent: nothing comes out before the next key frame, which
        cuts at once. Asking for it is the caller's."""
        self._cut = None
        self.asks_at = now + ASK_AGAIN

    def keyframe_due(self, now: float) -> bool:
        """Whether to ask the sender for a key frame now; at most once a ASK_AGAIN."""
        if now < self.asks_at:
            return False
        self.asks_at = now + ASK_AGAIN
        return True

    def _cut_here(self, unit: AccessUnit, now: float) -> bool:
        if self._cut is None:
            return unit.keyframe
        since, pts = self._cut
        if now - since >= MAX_SEGMENT_SECONDS or self._size >= MAX_SEGMENT_BYTES:
            return True
        if not unit.keyframe or now - since < self._min_duration:
            return False
        # A pts before the cut's is another clock: it says nothing about the duration.
        return not 0 <= unit.pts - pts < self._min_duration * VIDEO_CLOCK
