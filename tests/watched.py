"""A gateway, a link and a viewer in virtual time: pictures and sound through our own sending
side, over a bad path, into our own receiving side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Any

from relay.media.unit import Codec
from relay.protocols.webrtc.congestion import INTERVAL, FeedbackBuilder
from relay.protocols.webrtc.fanout import OutgoingTrack
from relay.protocols.webrtc.h264_payload import packetize
from relay.protocols.webrtc.link import Link as ViewerLink
from relay.protocols.webrtc.negotiation import TRANSPORT_CC, TrackParameters
from relay.protocols.webrtc.receive import VideoReceiver
from relay.protocols.webrtc.rtcp import Nack, PictureLoss, parse_compound
from relay.protocols.webrtc.rtp import parse_rtp, transport_sequence
from relay.protocols.webrtc.sendlog import SendLog
from relay.protocols.webrtc.viewer import Frame, Viewer, ViewerState
from tests.netem import Clock, Link
from tests.protocols.webrtc.outlet import FakeOutlet, parameters
from tests.protocols.webrtc.source import number_of, picture

FPS = 30
KEYFRAME_EVERY = 60
KEYFRAME_SIZE = 50_000
PICTURE_SIZE = 7_600
"""Bytes; with those of the key frames about 2.2 Mbit/s."""
SOUND_EVERY = 0.02
SOUND_SIZE = 160
SEAL = bytes(20)
"""What SRTCP adds."""
NUMBER = 3


@dataclass
class Shown:
    """One picture that the viewer could show, by its number and when."""

    number: int
    at: float


class Watched:
    """One viewer of one stream.

    Args:
        feedback: whether transport-wide feedback is negotiated.
        path: of ``tests.netem.Link``, from gateway to viewer.
    """

    def __init__(
        self, clock: Clock, *, feedback: bool = True, back_loss: float = 0.0, **path: Any
    ) -> None:
        self.clock = clock
        self.begin = clock.now
        self.shown: list[Shown] = []
        self.sounds: list[tuple[float, float]] = []  # sent, arrived
        self.states: list[tuple[float, ViewerState]] = []
        self.keyframes_asked = 0
        self.number = 0
        self._wanted = False
        self._made_at = -inf
        self._units: dict[int, bytes] = {}
        outlet = FakeOutlet()
        outlet.transmit = lambda data: self.forward.send(data)
        log = SendLog(NUMBER, clock=lambda: clock.now) if feedback else None
        video, audio = (
            OutgoingTrack(_counted(parameters(codec)), outlet, log)
            for codec in (Codec.H264, Codec.OPUS)
        )
        self.viewer = Viewer("v", video, audio, ViewerLink(log))
        self._video, self._audio = video, audio
        self._receiver = VideoReceiver(102, rtx_payload_type=103, ssrc=1000, rtx_ssrc=1001)
        self._feedback = FeedbackBuilder(9)
        self._feedback_at = inf
        self._woken_at = inf
        self._lost = 0
        self._highest: int | None = None
        self.forward = Link(clock, self._arrive, **path)
        self.back = Link(clock, self._heard, delay=path.get("delay", 0.01), loss=back_loss, seed=9)
        self.last = clock.now

    def run(self, seconds: float) -> None:
        """The stream goes on for so long."""
        until = self.last + seconds
        if self.last == self.begin:
            self.viewer.connected((), has_video=False, now=self.begin)
            self._tick()
        count = round(seconds * FPS)
        for index in range(count):
            self.clock.at(self.last + index / FPS, self._picture)
        for index in range(round(seconds / SOUND_EVERY)):
            self.clock.at(self.last + index * SOUND_EVERY, self._sound)
        self.clock.run(until)
        self.last = until

    # -- the gateway

    def _picture(self) -> None:
        now = self.clock.now
        asked = self._wanted and now - self._made_at >= 0.3
        keyframe = self.number % KEYFRAME_EVERY == 0 or asked
        if keyframe:
            self._wanted = False
            self._made_at = now
        size = KEYFRAME_SIZE if keyframe else PICTURE_SIZE
        unit = self._units[self.number] = picture(self.number, keyframe=keyframe, size=size)
        self._units.pop(self.number - 300, None)
        payloads = packetize(unit)
        frame = Frame(payloads, len(unit), self.number * 3000)
        self.number += 1
        viewer = self.viewer
        if viewer.state is ViewerState.LIVE or viewer.frame(frame, keyframe=keyframe):
            self._video.send_alone(payloads, frame.timestamp, marker=True)

    def _sound(self) -> None:
        if self.viewer.audio_open:
            sent = f"{self.clock.now:020.6f}".encode()
            self._audio.send(
                [sent + bytes(SOUND_SIZE - 20)],
                round(self.clock.now * 48000) & 0xFFFFFFFF,
                marker=False,
            )

    def _tick(self) -> None:
        for packet in self.viewer.try_again(self.clock.now):
            self.forward.send(packet)
        self._note_state()
        self.clock.at(self.clock.now + 0.1, self._tick)

    def _heard(self, data: bytes) -> None:
        now = self.clock.now
        if self.viewer.link.leaves(data + SEAL, now):
            return
        again, keyframe = self.viewer.feedback(parse_compound(data), now)
        for packet in again:
            self.forward.send(packet)
        self.viewer.weigh(now)
        self._note_state()
        if keyframe and self.viewer.state is not ViewerState.PAUSED:
            self.keyframes_asked += 1
            self._wanted = True

    def _note_state(self) -> None:
        state = self.viewer.state
        if not self.states or self.states[-1][1] is not state:
            self.states.append((self.clock.now, state))
            self._wanted |= state is ViewerState.WAITING

    # -- the viewer

    def _arrive(self, data: bytes) -> None:
        now = self.clock.now
        packet = parse_rtp(data)
        number = transport_sequence(packet, NUMBER)
        if number is not None:
            self._feedback.arrived(number, packet.ssrc, now)
            if self._feedback_at == inf:
                self._feedback_at = now + INTERVAL
                self.clock.at(self._feedback_at, self._tell)
        if packet.ssrc == self._audio.ssrc:
            self.sounds.append((float(packet.payload[:20]), now))
            return
        for got in self._receiver.feed(packet, now):
            self._show(got.annexb)
        self._poll()

    def _tell(self) -> None:
        self._feedback_at = inf
        for told in self._feedback.build():
            self.back.send(told.serialise())

    def _poll(self) -> None:
        now = self.clock.now
        if self._receiver.wake_at <= now:
            result = self._receiver.poll(now)
            for got in result.pictures:
                self._show(got.annexb)
            if result.nack:
                self.back.send(Nack(1, 1000, result.nack).serialise())
            if result.keyframe:
                self.back.send(PictureLoss(1, 1000).serialise())
        if self._receiver.wake_at < self._woken_at:
            self._woken_at = self._receiver.wake_at
            self.clock.at(self._woken_at, self._timer)

    def _timer(self) -> None:
        self._woken_at = inf
        self._poll()

    def _show(self, unit: bytes) -> None:
        number = number_of(unit)
        assert self._units.get(number) == unit
        self.shown.append(Shown(number, self.clock.now))


def _counted(given: TrackParameters) -> TrackParameters:
    return replace(given, extensions={TRANSPORT_CC: NUMBER})
