"""The output that viewers watch: one clock, whatever feeds it.

A session comes and goes; the rendition stays. Its timestamps are those of the
path, so a picture carries the same timestamp in and out, and a job that moves to
another orchestrator goes on where the last one ended. While no session feeds it,
the source's audio goes on, and the last processed picture stays.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from typing import Final

from relay.gateway.compare import EACH, Comparison
from relay.gateway.rates import TOGETHER, Delays, Meter
from relay.gateway.status import Output
from relay.media.h264 import ParameterSets, Sps
from relay.media.unit import VIDEO_CLOCK, AccessUnit, Codec
from relay.protocols.webrtc.h264_payload import Packetizer
from relay.protocols.webrtc.processes.egresses import Egresses

log = logging.getLogger(__name__)

KNOWN_INPUTS: Final = 1024
"""Input pictures whose arrival is remembered, to tell the delay."""
AUDIO_KEPT: Final = 100
"""Source audio packets kept (2 s), to fill in where the output's audio ends."""
AUDIO_GAP: Final = 0.15
"""Seconds without output audio until the source's audio goes on in its place."""
FOREIGN: Final = 10 * VIDEO_CLOCK
"""An output timestamp further than this from the input's is on a clock of its own."""
AHEAD: Final = VIDEO_CLOCK // 2
"""Viewers that are further ahead of the input than this were brought there by pictures of no
input of ours; to wait for it would hide all that the next orchestrator sends."""
FRAME: Final = VIDEO_CLOCK // 30
WRAP: Final = 1 << 33
_H264: Final = Codec.H264


def lift(pts: int, near: int) -> int:
    """The 33-bit timestamp ``pts`` as the unwrapped one that is nearest to ``near``."""
    difference = (pts - near) % WRAP
    return near + (difference - WRAP if difference >= WRAP // 2 else difference)


class Rendition:
    """Merges the output of sessions and the source's audio into what viewers get.

    Args:
        name: key of the rendition in the egress.
        show_source: the operator lets the source's picture be seen while switching.
    """

    def __init__(
        self,
        name: str,
        egress: Egresses,
        *,
        show_source: bool = False,
    ) -> None:
        self._name = name
        self._egress = egress
        self._show_source = show_source
        self._arrivals: OrderedDict[int, float] = OrderedDict()
        self._newest_input = 0
        self._offset = 0
        self._placed = False
        self._needs_keyframe = True
        self.stuck = False
        """New pictures come, and none with which a viewer can begin."""
        self._feeding = False
        self._closed = False
        self._last_video = -1
        self._last_audio = -1
        self._last_output_audio = 0.0
        self._source_audio: deque[AccessUnit] = deque(maxlen=AUDIO_KEPT)
        self._parameters = ParameterSets()
        self._sps: Sps | None = None
        self._meter = Meter("job_output")
        self._delays = Delays()
        self._packetizer = Packetizer()
        self.last_output: float | None = None
        self.compare = Comparison()
        self.foreign = 0
        """Sessions whose output was on a clock of its own."""

    # --- what feeds it -------------------------------------------------------

    def begin(self, oldest: int | None = None) -> None:
        """A new session feeds the rendition from here on; it starts with a key frame.

        Args:
            oldest: timestamp of the first picture that the session is given, 90 kHz.
        """
        self._feeding = True
        self.compare = Comparison(oldest)
        self._needs_keyframe = True
        self._offset = 0
        self._placed = False

    def interrupt(self) -> None:
        """No session feeds the rendition: the source's audio goes on."""
        self._feeding = False
        self._needs_keyframe = True
        self._flush_source_audio()

    def close(self) -> None:
        """Nothing is sent on from here: the viewers are gone, a job may still be ending."""
        self._closed = True
        self._meter.tell()
        self._delays.tell()
        self._source_audio.clear()
        self.compare = Comparison()  # the one that was holds pictures

    def source(self, unit: AccessUnit) -> None:
        """One unit of the publisher, on the path's clock."""
        if self._closed:
            return
        compare = self.compare
        compare.passed.append((unit, False))  # as its ``sent`` does it
        compare.room -= EACH + len(unit.payload)
        if compare.room < 0:
            compare.look()
        if unit.is_video:
            self._newest_input = unit.pts
            self._arrivals[unit.pts] = unit.arrival
            if len(self._arrivals) > KNOWN_INPUTS:
                self._arrivals.popitem(last=False)
            if self._show_source and not self._feeding:
                self._send_video(unit)
            return
        self._source_audio.append(unit)
        if not self._feeding or unit.arrival - self._last_output_audio > AUDIO_GAP:
            self._flush_source_audio()

    def output(self, unit: AccessUnit) -> bool:
        """One unit of the session; its timestamp may be wrapped to 33 bits.

        Returns:
            Whether it was sent on: late, foreign and undecodable units are not.
        """
        if self._closed:
            return False
        newest = self._newest_input
        pts = unit.pts + self._offset
        if abs(pts - newest) > FOREIGN:
            pts = lift(pts, newest)
        if unit.is_video and not self._placed:
            pts = self._place(pts)
        if abs(pts - newest) > FOREIGN:
            # Sent on, one picture of a time far ahead would be the last that viewers get.
            self.compare.stray(unit.arrival)
            return False
        placed = unit if pts == unit.pts else unit.at(pts)
        compare = self.compare
        own = placed if not self._offset else unit.at(lift(unit.pts, newest))
        compare.passed.append((own, True))  # as its ``back`` does it
        compare.room -= EACH + len(own.payload)
        if compare.room < 0:
            compare.look()
        if not unit.is_video:
            return self._output_audio(placed)
        if not self._send_video(placed):
            return False
        arrived = self._arrivals.get(pts)
        if arrived is not None:
            untold = self._delays.untold
            untold.append(unit.arrival - arrived)
            if len(untold) >= TOGETHER:
                self._delays.tell()
        return True

    def _place(self, pts: int) -> int:
        """Where the first picture of a session belongs; ``_offset`` brings the others there.

        A worker that keeps our timestamps begins near the input, or with a picture of the
        kept group, which viewers may have seen. Any other clock is laid on the path's; so
        is any clock once a session before has brought viewers far ahead of the input.
        """
        self._placed = True
        near = abs(pts - self._newest_input) <= FOREIGN
        ahead = self._last_video - self._newest_input > AHEAD
        if near and not ahead and (pts > self._last_video or pts in self._arrivals):
            return pts
        self.foreign += 1
        log.warning("%s: the output is on a clock of its own", self._name)
        here = max(self._newest_input, self._last_video + FRAME)
        self._offset = here - pts
        return here

    # --- what it tells -------------------------------------------------------

    def status(self, now: float) -> Output:
        fps = self._meter.fps(now)
        return Output(
            fps=fps,
            bitrate=self._meter.bitrate(now),
            width=self._sps.width if self._sps else None,
            height=self._sps.height if self._sps else None,
            delay=self._delays.summary() if fps else None,  # of what comes; else it is history
        )

    # --- sending -------------------------------------------------------------

    def _send_video(self, unit: AccessUnit) -> bool:
        if unit.pts <= self._last_video:
            return False
        self.stuck = self._needs_keyframe and not unit.keyframe
        if self.stuck:
            return False
        payload = unit.payload
        if unit.keyframe:
            payload, sps = self._parameters.apply(payload)
            self._sps = sps or self._sps
            self._needs_keyframe = False
        self._last_video = unit.pts
        self.last_output = unit.arrival
        meter, now = self._meter, unit.arrival
        meter.untold.append((now, len(payload)))  # as its ``add`` does it
        if now >= meter.tell_at:
            meter.look(now)
        self._egress.frame(
            self._name,
            _H264,
            self._packetizer.cut(payload),
            unit.pts,
            keyframe=unit.keyframe,
        )
        return True

    def _output_audio(self, unit: AccessUnit) -> bool:
        self._last_output_audio = unit.arrival
        return self._send_audio(unit)

    def _flush_source_audio(self) -> None:
        while self._source_audio:
            self._send_audio(self._source_audio.popleft())

    def _send_audio(self, unit: AccessUnit) -> bool:
        if unit.pts <= self._last_audio:
            return False
        self._last_audio = unit.pts
        self._egress.frame(self._name, Codec.OPUS, [unit.payload], unit.pts * 8 // 15)
        return True
