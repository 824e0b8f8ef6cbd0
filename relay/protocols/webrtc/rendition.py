"""One rendition's pictures and sound, and who gets them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from relay.media.unit import VIDEO_CLOCK
from relay.protocols.webrtc.egress_session import EgressSession
from relay.protocols.webrtc.fanout import FanOut, LineClock, OutgoingTrack, ntp_time
from relay.protocols.webrtc.native_fanout import NativeSender
from relay.protocols.webrtc.pacing import PacedFanOut
from relay.protocols.webrtc.payloads import Payloads
from relay.protocols.webrtc.reporting import Reporting
from relay.protocols.webrtc.srtp import SrtpError
from relay.protocols.webrtc.viewer import CATCH_UP_RATE, Frame, ViewerState

MAX_GROUP: Final = 4 << 20
"""Bytes of a group of pictures that a new viewer is started with."""

MAX_GROUP_TIME: Final = 10 * VIDEO_CLOCK
"""Ticks of 90 kHz that such a group may span."""

GROUP_LIFE: Final = 10.0
"""Seconds after its last picture in which a group still starts viewers: a worker that is
replaced shows its last picture, a publisher that is long gone shows nothing."""

SOONER: Final = 0.25
"""Seconds to catch up with a group from which on a fresh key frame is likely to be there before: it
is asked for as well."""

DECODED: Final = 0.003
"""Seconds that a viewer's decoder needs for a picture, about."""

KEYFRAME_INTERVAL: Final = 0.5
"""Seconds between two requests of a rendition for a key frame, however many ask."""

PUMPED: Final = 8
"""Viewers that catch up in one step: their packets take two milliseconds, and the next picture
of everybody waits no longer than that."""

_AUDIO_WAIT: Final = 1.0  # seconds that audio is held back for a first picture


class Rendition:
    """One stream of pictures and sound, and who gets it."""

    def __init__(
        self, name: str, on_keyframe_wanted: Callable[[], None], native: NativeSender | None
    ) -> None:
        self.name = name
        self.sessions: dict[str, EgressSession] = {}
        self.clock = LineClock()
        self.catching_up: list[EgressSession] = []
        self.on_keyframe_wanted = on_keyframe_wanted
        self._wanted_at = -KEYFRAME_INTERVAL
        self.group: list[Frame] = []
        self._group_octets = 0
        self.pictured_at = -inf
        self._has_video = False
        self._pictures = PacedFanOut(FanOut() if native is None else native.fan_out())
        self._sound = FanOut() if native is None else native.fan_out()
        self._seeing: list[OutgoingTrack] = []
        self._hearing: list[OutgoingTrack] = []
        self._reporting = Reporting(native)
        self._waiting: list[EgressSession] = []
        self._paused: list[EgressSession] = []
        self.unsendable = 0
        self.wake: Callable[[], None] = lambda: None

    def want_keyframe(self, now: float) -> None:
        if now - self._wanted_at >= KEYFRAME_INTERVAL:
            self._wanted_at = now
            self.on_keyframe_wanted()

    def start(self, session: EgressSession, now: float) -> None:
        """A viewer is connected."""
        viewer = session.viewer
        group = self.group if now - self.pictured_at < GROUP_LIFE else []
        try:
            viewer.connected(group, has_video=self._has_video, now=now)
        except SrtpError as error:
            session.peer.end(f"SRTP failed: {error}")
            return
        self._reporting.add(session)
        if viewer.state is ViewerState.WAITING:
            self._waiting.append(session)
            self.want_keyframe(now)
        else:
            if viewer.state is ViewerState.CATCHING_UP:
                self.catching_up.append(session)
            sent = self._group_octets / CATCH_UP_RATE
            if group and max(sent, len(group) * DECODED) > SOONER:
                self.want_keyframe(now)
        self._sort()
        self.wake()

    def drop(self, session: EgressSession) -> None:
        if self.sessions.pop(session.id, None) is not None:
            self._waiting = [other for other in self._waiting if other is not session]
            self.catching_up = [other for other in self.catching_up if other is not session]
            self._paused = [other for other in self._paused if other is not session]
            self._sort()
        self._reporting.drop()
        if not self.sessions:
            self._reporting.clear()

    def pause(self, session: EgressSession) -> None:
        """A viewer's link is too small: it gets the sound only, until ``tick`` finds more."""
        self._paused.append(session)
        self._sort()
        self.wake()

    def _sort(self) -> None:
        """Who is sent what, in lists that the sending loop need not think about."""
        viewers = [session.viewer for session in self.sessions.values()]
        seeing = [
            viewer.video
            for viewer in viewers
            if viewer.state is ViewerState.LIVE and viewer.video is not None
        ]
        hearing = [
            viewer.audio for viewer in viewers if viewer.audio_open and viewer.audio is not None
        ]
        # One is changed more often than both, and each takes a look at all of its tracks.
        if seeing != self._seeing:
            self._seeing = seeing
            self._pictures.set(seeing)
        if hearing != self._hearing:
            self._hearing = hearing
            self._sound.set(hearing)

    def video(self, payloads: Sequence[bytes], timestamp: int, *, keyframe: bool) -> None:
        self._has_video = True
        self.pictured_at = time.monotonic()
        octets = len(payloads.data) if type(payloads) is Payloads else sum(map(len, payloads))
        # As ``Frame`` makes it, without a call in between.
        frame = tuple.__new__(Frame, (payloads, octets, timestamp))
        if self._waiting or self.catching_up:
            self._bring_in(frame, keyframe=keyframe)
        self._keep(frame, keyframe=keyframe)
        failed = self._pictures.frame(payloads, timestamp)
        if failed:
            self._fail(failed)
        if self._pictures.waiting:
            self.wake()

    def restore(self, frame: Frame, *, keyframe: bool, at: float) -> None:
        """A picture of the kept group, which another process has sent; see ``Egress.restore``."""
        self._has_video = True
        self.pictured_at = at
        self._keep(frame, keyframe=keyframe)

    def audio(self, payloads: Sequence[bytes], timestamp: int) -> None:
        self._fail(self._sound.frame(payloads, timestamp, marker=False))

    def _bring_in(self, frame: Frame, *, keyframe: bool) -> None:
        changed = False
        for session in [*self._waiting, *self.catching_up]:
            changed |= session.viewer.frame(frame, keyframe=keyframe)
        for session in self.catching_up:
            if session.viewer.state is ViewerState.WAITING:
                self._waiting.append(session)
                self.want_keyframe(time.monotonic())
                changed = True
        if changed:
            self._refresh()

    def _refresh(self) -> None:
        self._waiting = [s for s in self._waiting if s.viewer.state is ViewerState.WAITING]
        self.catching_up = [
            s for s in self.catching_up if s.viewer.state is ViewerState.CATCHING_UP
        ]
        self._sort()

    def _keep(self, frame: Frame, *, keyframe: bool) -> None:
        """The group of pictures since the last key frame, none when it grows too large."""
        if keyframe:
            self.group = [frame]
            self._group_octets = frame.octets
            return
        group = self.group
        if not group:
            return
        group.append(frame)
        self._group_octets += frame.octets
        too_long = abs(frame.timestamp - group[0].timestamp) > MAX_GROUP_TIME
        if too_long or self._group_octets > MAX_GROUP:
            self.group = []

    def _fail(self, failed: list[OutgoingTrack]) -> None:
        if failed:
            for session in list(self.sessions.values()):
                if session.viewer.video in failed or session.viewer.audio in failed:
                    session.peer.end("SRTP failed")

    @property
    def busy(self) -> bool:
        """Whether ``pump`` is to be called soon."""
        return self._pictures.waiting or bool(self.catching_up)

    def pump(self) -> None:
        """The next part of a large picture; and one step for viewers that catch up: of many,
        those whose turn it is."""
        self._fail(self._pictures.pump())
        served = self.catching_up[:PUMPED]
        self.catching_up = self.catching_up[PUMPED:] + served
        done = False
        for session in served:
            try:
                done |= session.viewer.pump()
            except SrtpError as error:
                session.peer.end(f"SRTP failed: {error}")
        if done:
            self._refresh()

    @property
    def due_at(self) -> float:
        """When ``tick`` is to be called next; -inf: soon."""
        return -inf if self._paused or self._waiting else self._reporting.due_at

    def tick(self, now: float, wall: float) -> None:
        """Sender reports; and sound for whom no picture comes."""
        if self._reporting.due_at <= now:
            line = self.clock.at(wall)
            if line is not None:
                self._reporting.send(line, now, ntp_time(wall))
        if self._paused:
            self._try_again(now)
        for session in self._waiting:
            viewer = session.viewer
            at = viewer.connected_at
            if not viewer.audio_open and at is not None and now - at >= _AUDIO_WAIT:
                viewer.audio_open = True
                self._sort()

    def _try_again(self, now: float) -> None:
        for session in list(self._paused):
            session.send(session.viewer.try_again(now))
            if session.viewer.state is ViewerState.WAITING:
                self._paused.remove(session)
                self._waiting.append(session)
                self.want_keyframe(now)
