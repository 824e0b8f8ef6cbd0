"""A publisher's sound: placed on its line, and in native hands where nothing of it is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from relay.media.timeline import Timeline
from relay.media.unit import AccessUnit, Codec
from relay.protocols.webrtc.ingest_sink import Nowhere
from relay.protocols.webrtc.native_lane import Lane
from relay.protocols.webrtc.picture import Run
from relay.protocols.webrtc.receive_audio import AudioPacket, AudioReceiver, SoundStanding
from relay.protocols.webrtc.rtp import RtpPacket


class IngestSound:
    """
    Args:
        show: takes each unit.

    Attributes:
        audio: puts packets in order.
        lane: what native code receives; Python does all of it where there is none.
    """

    def __init__(
        self, audio: AudioReceiver, timeline: Timeline, show: Callable[[AccessUnit], None]
    ) -> None:
        self.audio = audio
        self._timeline = timeline
        self._show = show
        self.lane: Lane | None = None

    def feed(self, packet: RtpPacket, now: float) -> None:
        """Take one packet in that did not stay in native hands."""
        if self.lane is not None:
            self.lane.take_sound()  # the first is placed beside the last picture
        self._pass(self.audio.feed(packet, now))
        self.go_on()

    def poll(self, now: float) -> None:
        self._pass(self.audio.poll(now))

    def go_on(self) -> None:
        """Have it passed on natively from here, where nothing is missing."""
        heard = self._timeline.heard
        if self.lane is not None and heard is not None:
            self.lane.give_sound(self.audio, SoundStanding(*heard, self.audio.pace.state))

    def ran(self, run: Run, standing: SoundStanding) -> None:
        """So much came natively since the last time."""
        self.audio.counted(run, standing.arrival)
        self.audio.pace.state = standing.budget
        self._timeline.sounded(standing.ticks, standing.arrival)

    def close(self) -> None:
        """Nothing is passed on any more: who takes it may hold the session."""
        self._show, self.lane = Nowhere().unit, None

    def _pass(self, packets: Iterable[AudioPacket]) -> None:
        for packet in packets:
            pts = self._timeline.audio(packet.timestamp, packet.arrival)
            self._show(AccessUnit(Codec.OPUS, packet.payload, pts, packet.arrival))
