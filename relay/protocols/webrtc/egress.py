"""WHEP: renditions out to any number of viewers.

The caller packetises once a frame; here each viewer's numbers, keys and state are. One
timer serves all: sender reports, and the steps of viewers that catch up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from relay.errors import NotFound, ParseError
from relay.media.unit import VIDEO_CLOCK, Codec
from relay.protocols.webrtc.dtls import SrtpError
from relay.protocols.webrtc.fanout import MAX_PAYLOAD, LineClock, OutgoingTrack, fan_out, ntp_time
from relay.protocols.webrtc.negotiation import TrackParameters
from relay.protocols.webrtc.peer import Peer, Peers, PeerState
from relay.protocols.webrtc.rtcp import SourceDescription, compound, parse_compound
from relay.protocols.webrtc.session import Session
from relay.protocols.webrtc.viewer import CATCH_UP_STEP, Frame, Viewer, ViewerState

MAX_GROUP: Final = 4 << 20
"""Bytes of a group of pictures that a new viewer is started with."""

MAX_GROUP_TIME: Final = 10 * VIDEO_CLOCK
"""Ticks of 90 kHz that such a group may span."""

GROUP_LIFE: Final = 10.0
"""Seconds after its last picture in which a group still starts viewers: a worker that is
replaced shows its last picture, a publisher that is long gone shows nothing."""

KEYFRAME_INTERVAL: Final = 0.5
"""Seconds between two requests of a rendition for a key frame, however many ask."""

REPORT_INTERVAL: Final = 1.0

_TICK: Final = 0.1
_AUDIO_WAIT: Final = 1.0  # seconds that audio is held back for a first picture


@dataclass(frozen=True, slots=True)
class ViewerStatistics:
    """One viewer, as it is now. Times in seconds, rates as last reported by the viewer."""

    id: str
    state: str
    connected_for: float | None
    packets: int
    octets: int
    resent: int
    nacked: int
    keyframes_asked: int
    fraction_lost: float
    jitter: float
    round_trip: float | None


class EgressSession(Session):
    """A viewer of one rendition."""

    def __init__(self, peer: Peer, rendition: _Rendition) -> None:
        super().__init__(peer)
        self.viewer = Viewer(self.id[:6], _track(peer.video, peer), _track(peer.audio, peer))
        self._rendition = rendition
        peer.on_rtcp = self._on_rtcp

    def state_changed(self, state: PeerState) -> None:
        super().state_changed(state)
        if state is PeerState.CONNECTED:
            self._rendition.start(self, time.monotonic())
        elif state is PeerState.CLOSED:
            self.viewer.gone(self.peer.close_reason)
            self._rendition.drop(self)

    def statistics(self, now: float) -> ViewerStatistics:
        viewer, counters = self.viewer, self.viewer.counters
        tracks = [track for track in (viewer.video, viewer.audio) if track is not None]
        at = viewer.connected_at
        return ViewerStatistics(
            id=self.id,
            state=viewer.state.value,
            connected_for=None if at is None else now - at,
            packets=sum(track.packets for track in tracks),
            octets=sum(track.octets for track in tracks),
            resent=sum(track.resent for track in tracks),
            nacked=counters.nacked,
            keyframes_asked=counters.keyframes_asked,
            fraction_lost=counters.fraction_lost,
            jitter=counters.jitter,
            round_trip=counters.round_trip,
        )

    def report(self, clock: LineClock, wall: float, now: float) -> None:
        """Send a sender report for each track that has begun."""
        line = clock.at(wall)
        viewer = self.viewer
        if line is None or now < viewer.report_at:
            return
        viewer.report_at = now + REPORT_INTERVAL
        ntp = ntp_time(wall)
        reports = [
            track.sender_report(ntp, line)
            for track in (viewer.video, viewer.audio)
            if track is not None and track.packets
        ]
        if reports:
            names = SourceDescription(tuple((report.ssrc, self.peer.id) for report in reports))
            self.peer.send_rtcp(compound([*reports, names]))
            viewer.reported(ntp, now)

    def _on_rtcp(self, data: bytes, now: float) -> None:
        try:
            packets = parse_compound(data)
        except ParseError:
            return  # one compound lost; the next says the same again
        again, keyframe = self.viewer.feedback(packets, now)
        try:
            for packet in again:
                self.peer.send_rtp(packet)
        except SrtpError as error:
            self.peer.end(f"SRTP failed: {error}")
        if keyframe:
            self._rendition.want_keyframe(now)


def _track(parameters: TrackParameters | None, peer: Peer) -> OutgoingTrack | None:
    return None if parameters is None else OutgoingTrack(parameters, peer)


class _Rendition:
    """One stream of pictures and sound, and who gets it."""

    def __init__(self, name: str, on_keyframe_wanted: Callable[[], None]) -> None:
        self.name = name
        self.sessions: dict[str, EgressSession] = {}
        self.clock = LineClock()
        self.catching_up: list[EgressSession] = []
        self.on_keyframe_wanted = on_keyframe_wanted
        self._wanted_at = -KEYFRAME_INTERVAL
        self.group: list[Frame] = []
        self._group_octets = 0
        self._pictured_at = -inf
        self._has_video = False
        self._live: list[OutgoingTrack] = []
        self._listening: list[OutgoingTrack] = []
        self._waiting: list[EgressSession] = []
        self.unsendable = 0
        self.wake: Callable[[], None] = lambda: None

    def want_keyframe(self, now: float) -> None:
        if now - self._wanted_at >= KEYFRAME_INTERVAL:
            self._wanted_at = now
            self.on_keyframe_wanted()

    def start(self, session: EgressSession, now: float) -> None:
        """A viewer is connected."""
        viewer = session.viewer
        group = self.group if now - self._pictured_at < GROUP_LIFE else []
        try:
            viewer.connected(group, has_video=self._has_video, now=now)
        except SrtpError as error:
            session.peer.end(f"SRTP failed: {error}")
            return
        if viewer.state is ViewerState.WAITING:
            self._waiting.append(session)
            self.want_keyframe(now)
        elif viewer.state is ViewerState.CATCHING_UP:
            self.catching_up.append(session)
        self._sort()
        self.wake()

    def drop(self, session: EgressSession) -> None:
        if self.sessions.pop(session.id, None) is not None:
            self._waiting = [other for other in self._waiting if other is not session]
            self.catching_up = [other for other in self.catching_up if other is not session]
            self._sort()

    def _sort(self) -> None:
        """Who is sent what, in lists that the sending loop need not think about."""
        viewers = [session.viewer for session in self.sessions.values()]
        self._live = [
            viewer.video
            for viewer in viewers
            if viewer.state is ViewerState.LIVE and viewer.video is not None
        ]
        self._listening = [
            viewer.audio for viewer in viewers if viewer.audio_open and viewer.audio is not None
        ]

    def video(self, payloads: Sequence[bytes], timestamp: int, *, keyframe: bool) -> None:
        self._has_video = True
        self._pictured_at = time.monotonic()
        frame = Frame(payloads, sum(map(len, payloads)), timestamp)
        if self._waiting or self.catching_up:
            self._bring_in(frame, keyframe=keyframe)
        self._keep(frame, keyframe=keyframe)
        self._fail(fan_out(self._live, payloads, timestamp, marker=True))

    def audio(self, payloads: Sequence[bytes], timestamp: int) -> None:
        self._fail(fan_out(self._listening, payloads, timestamp, marker=False))

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

    def pump(self) -> None:
        """One step for each viewer that catches up."""
        done = False
        for session in list(self.catching_up):
            try:
                done |= session.viewer.pump()
            except SrtpError as error:
                session.peer.end(f"SRTP failed: {error}")
        if done:
            self._refresh()

    def tick(self, now: float, wall: float) -> None:
        """Sender reports; and sound for whom no picture comes."""
        for session in list(self.sessions.values()):
            if session.viewer.connected_at is not None:
                session.report(self.clock, wall, now)
        for session in self._waiting:
            viewer = session.viewer
            at = viewer.connected_at
            if not viewer.audio_open and at is not None and now - at >= _AUDIO_WAIT:
                viewer.audio_open = True
                self._sort()


class Egress:
    """All renditions of a process, and their viewers."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._renditions: dict[str, _Rendition] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._next_tick = 0.0

    def open(self, rendition: str, *, on_keyframe_wanted: Callable[[], None]) -> None:
        """Make a rendition; a second call changes only whom key frames are asked of.

        Args:
            on_keyframe_wanted: called at most once in KEYFRAME_INTERVAL.
        """
        known = self._renditions.get(rendition)
        if known is not None:
            known.on_keyframe_wanted = on_keyframe_wanted
            return
        made = _Rendition(rendition, on_keyframe_wanted)
        made.wake = self._schedule
        self._renditions[rendition] = made

    def frame(
        self,
        rendition: str,
        codec: Codec,
        payloads: Sequence[bytes],
        timestamp: int,
        *,
        keyframe: bool = False,
    ) -> None:
        """Send one access unit to all viewers of a rendition.

        Args:
            payloads: its RTP payloads; not changed after. With one of more than
                MAX_PAYLOAD bytes the unit is dropped and counted.
            timestamp: on the rendition's own line, not wrapped, in the codec's RTP clock
                (video 90 kHz, Opus 48 kHz); both codecs count from the same zero.

        Raises:
            NotFound: no such rendition.
        """
        known = self._find(rendition)
        if not payloads:
            return
        if max(map(len, payloads)) > MAX_PAYLOAD:
            known.unsendable += 1  # an Opus packet of an odd encoder; pictures are cut
            return
        if codec is Codec.H264:
            known.clock.observe(timestamp / VIDEO_CLOCK, time.time())
            known.video(payloads, timestamp, keyframe=keyframe)
        else:
            known.clock.observe(timestamp / 48_000, time.time())
            known.audio(payloads, timestamp)

    def forget(self, rendition: str) -> None:
        """Start no viewer from the pictures so far: what they are of is over."""
        if (known := self._renditions.get(rendition)) is not None:
            known.group = []

    async def answer(self, rendition: str, offer: str) -> EgressSession:
        """Let a viewer in; it may come before any frame.

        Raises:
            NotFound: no such rendition.
            BadInput, TooLarge, Unprocessable, Unavailable: as ``Peers.answer``.
        """
        known = self._find(rendition)
        peer = await self._peers.answer(offer, receive=False)
        session = EgressSession(peer, known)
        if self._renditions.get(rendition) is not known:
            await session.close("the stream has ended")
            raise NotFound(f"no rendition {rendition}", code="no_rendition")
        known.sessions[session.id] = session
        return session

    def viewers(self, rendition: str) -> list[ViewerStatistics]:
        """Raises: NotFound."""
        now = time.monotonic()
        return [session.statistics(now) for session in self._find(rendition).sessions.values()]

    async def close(self, rendition: str, reason: str) -> None:
        """End a rendition: each viewer is told. Unknown ones are ended already."""
        known = self._renditions.pop(rendition, None)
        if known is not None:
            for session in list(known.sessions.values()):
                await session.close(reason)
        if not self._renditions and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _find(self, rendition: str) -> _Rendition:
        known = self._renditions.get(rendition)
        if known is None:
            raise NotFound(f"no rendition {rendition}", code="no_rendition")
        return known

    # -- the timer

    def _schedule(self) -> None:
        """Be woken while there is anyone to be served."""
        busy = any(known.catching_up for known in self._renditions.values())
        if not busy and not any(known.sessions for known in self._renditions.values()):
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + (CATCH_UP_STEP if busy else _TICK)
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = loop.call_at(when, self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = time.monotonic()
        for known in list(self._renditions.values()):
            if known.catching_up:
                known.pump()
        if now >= self._next_tick:
            self._next_tick = now + _TICK
            wall = time.time()
            for known in list(self._renditions.values()):
                known.tick(now, wall)
        self._schedule()
