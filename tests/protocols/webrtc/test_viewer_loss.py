"""A viewer behind a bad path: what we send again is what our own receive side asks for."""

from __future__ import annotations

import pytest

from relay.protocols.webrtc.fanout import OutgoingTrack
from relay.protocols.webrtc.h264_payload import packetize
from relay.protocols.webrtc.receive import Picture, VideoReceiver
from relay.protocols.webrtc.rtcp import Nack, PictureLoss, parse_compound
from relay.protocols.webrtc.rtp import parse_rtp
from relay.protocols.webrtc.viewer import CATCH_UP_STEP, Frame, Viewer, ViewerState
from tests.netem import Clock, Link
from tests.protocols.webrtc.outlet import FakeOutlet, parameters
from tests.protocols.webrtc.source import number_of, picture

FPS = 30


class Show:
    """A rendition of 30 pictures a second, and one viewer that comes late."""

    def __init__(self, clock: Clock, *, loss: float, seed: int) -> None:
        self.clock = clock
        self.units: list[bytes] = []
        self.group: list[Frame] = []
        self.got: list[Picture] = []
        self.keyframe_wanted = False
        outlet = FakeOutlet()
        outlet.transmit = self._transmit
        self.viewer = Viewer("v", OutgoingTrack(parameters(), outlet), None)
        self.receiver = VideoReceiver(102, rtx_payload_type=103, ssrc=1000, rtx_ssrc=1001)
        self.forward = Link(clock, self._arrive, delay=0.015, jitter=0.005, seed=seed)
        self.back = Link(clock, self._feedback, delay=0.015, loss=loss, seed=seed + 1)
        self._loss = loss

    def _transmit(self, packet: bytes) -> None:
        self.forward.send(packet)

    def start(self, frames: int, join: int) -> None:
        begin = self.clock.now
        for index in range(frames):
            self.clock.at(begin + index / FPS, self._frame)
        self.clock.at(begin + (join + 0.5) / FPS, self._join)
        self.clock.at(begin + (join + 1) / FPS, self._begin_losing)
        self.clock.at(begin + (frames - 3) / FPS, self._end_losing)

    def _begin_losing(self) -> None:
        self.forward.loss = self._loss

    def _end_losing(self) -> None:
        self.forward.loss = 0.0

    def _frame(self) -> None:
        number = len(self.units)
        keyframe = number % 60 == 0 or self.keyframe_wanted
        self.keyframe_wanted = False
        self.units.append(picture(number, keyframe=keyframe, size=30_000 if keyframe else 7000))
        payloads = packetize(self.units[-1])
        frame = Frame(payloads, sum(map(len, payloads)), number * 3000)
        self.group = [frame] if keyframe else [*self.group, frame]
        live = self.viewer.state is ViewerState.LIVE
        if live or self.viewer.frame(frame, keyframe=keyframe):
            assert self.viewer.video is not None
            self.viewer.video.send_alone(payloads, frame.timestamp, marker=True)

    def _join(self) -> None:
        self.viewer.connected(self.group, has_video=True, now=self.clock.now)
        self._pump()

    def _pump(self) -> None:
        if not self.viewer.pump():
            self.clock.at(self.clock.now + CATCH_UP_STEP, self._pump)

    def _arrive(self, data: bytes) -> None:
        self.got += self.receiver.feed(parse_rtp(data), self.clock.now)
        self._poll()

    def _poll(self) -> None:
        now = self.clock.now
        if self.receiver.wake_at > now:
            return
        result = self.receiver.poll(now)
        self.got += result.pictures
        if result.nack:
            self.back.send(Nack(1, 1000, result.nack).serialise())
        if result.keyframe:
            self.back.send(PictureLoss(1, 1000).serialise())
        if self.receiver.wake_at < float("inf"):
            self.clock.at(self.receiver.wake_at, self._poll)

    def _feedback(self, data: bytes) -> None:
        again, keyframe = self.viewer.feedback(parse_compound(data), self.clock.now)
        for packet in again:
            self.forward.send(packet)
        self.keyframe_wanted |= keyframe


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.05, 0.10])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_late_viewer_sees_every_picture_from_its_key_frame_on(loss: float, seed: int) -> None:
    clock = Clock()
    show = Show(clock, loss=loss, seed=seed)
    show.start(frames=300, join=50)
    clock.run(clock.now + 12)
    numbers = [number_of(got.annexb) for got in show.got]
    assert [got.annexb for got in show.got] == [show.units[number] for number in numbers]
    assert numbers[0] == 0
    assert numbers[-1] == 299
    if loss <= 0.05:
        assert numbers == list(range(300))
    joined = 1000 + 50.5 / FPS
    assert show.got[0].arrival - joined < 0.05
    caught_up = next(got for got in show.got if number_of(got.annexb) == 60)
    assert caught_up.arrival - (1000 + 60 / FPS) < 0.3
