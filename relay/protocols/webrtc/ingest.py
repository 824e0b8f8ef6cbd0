"""WHIP: one publisher's media in, access units out.

Everything happens in the read of the shared socket; there is no task and no queue, only
one timer a session: requests for what is missing, reports, congestion feedback.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf

from relay.errors import ParseError
from relay.media.timeline import Timeline
from relay.media.unit import AccessUnit, Codec
from relay.protocols.webrtc.arrivals import Arrivals
from relay.protocols.webrtc.ingest_sink import IngestSink, Nowhere
from relay.protocols.webrtc.ingest_sound import IngestSound
from relay.protocols.webrtc.ingest_statistics import IngestStatistics
from relay.protocols.webrtc.keyframe_requests import KeyframeRequests
from relay.protocols.webrtc.native_lane import ARRIVALS, Lane, unit_of
from relay.protocols.webrtc.negotiation import TRANSPORT_CC, TrackParameters
from relay.protocols.webrtc.path import is_stream
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.picture import Standing
from relay.protocols.webrtc.receive import Picture, Run, VideoReceiver
from relay.protocols.webrtc.receive_audio import AudioReceiver, SoundStanding
from relay.protocols.webrtc.receiver_reports import ReceiverReports
from relay.protocols.webrtc.remb import ReceiverEstimate
from relay.protocols.webrtc.rtcp import Nack, Remb
from relay.protocols.webrtc.rtp import RtpPacket, parse_rtp
from relay.protocols.webrtc.sender_reports import Clock, SenderReports
from relay.protocols.webrtc.session import GRAIN, Session

__all__ = ["Ingest", "IngestSession", "IngestSink", "IngestStatistics"]

SETTLED, NEXT_CLOCK = 10.0, 2.5
"""Seconds in which each sender report is looked at, and after each one in which, from then on, the
next may be passed over: clocks drift by some milliseconds a minute."""


class Ingest:
    """Lets publishers in."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def answer(self, offer: str, sink: IngestSink) -> IngestSession:
        """Accept an offer; its media goes to ``sink``.

        Raises:
            BadInput, TooLarge, Unprocessable, Unavailable: as ``Peers.answer``.
        """
        return IngestSession(await self._peers.answer(offer, receive=True), sink)


class IngestSession(Session):
    """One publisher.

    Attributes:
        has_video, has_audio: what was negotiated; either may still never come.
    """

    def __init__(
        self,
        peer: Peer,
        sink: IngestSink,
        tap: Callable[[bytes, float], None] | None = None,
    ) -> None:
        """
        Args:
            tap: called first with each decrypted packet and its arrival.
        """
        super().__init__(peer)
        self._sink: IngestSink = sink
        self._tap = tap
        self.has_video = peer.video is not None
        self.has_audio = peer.audio is not None
        self._video = _video_receiver(peer.video)
        self._audio = AudioReceiver(peer.audio.payload_type) if peer.audio is not None else None
        self._tracks = [track for track in (self._video, self._audio) if track is not None]
        self._video_type = peer.video.payload_type if peer.video is not None else -1
        self._audio_type = peer.audio.payload_type if peer.audio is not None else -1
        first = peer.video or peer.audio
        self._ssrc = first.ssrc if first is not None else 0
        extension = first.extensions.get(TRANSPORT_CC) if first is not None else None
        self._arrivals = Arrivals(self._ssrc, extension, peer.send_rtcp)
        # It takes our estimate, and has no feedback for one of its own.
        remb = peer.video is not None and "goog-remb" in peer.video.feedback
        self._estimate = ReceiverEstimate() if remb else None
        video, audio = self._video, self._audio
        self._reporting = ReceiverReports(self._ssrc, peer, video, audio, self._estimate)
        self._timeline = Timeline()
        self._sound = IngestSound(audio, self._timeline, sink.unit) if audio is not None else None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._settled_at = inf
        self._last_arrival: float | None = None
        self._keyframe_at: float | None = None
        self._size: tuple[int, int] | None = None
        self._keyframes = KeyframeRequests(self._ssrc, peer.video)
        self._clocks = SenderReports()
        self._malformed = 0
        self._lane: Lane | None = None
        peer.on_rtp = self._on_rtp
        peer.on_rtcp = self._on_rtcp
        peer.on_route = self._route

    # -- what the owner calls

    def request_keyframe(self) -> None:
        """Ask the publisher for a key frame, as often as ``KeyframeRequests`` lets."""
        if self._video is None:
            return
        now = time.monotonic()
        request = self._keyframes.request(self._video.ssrc, now)
        if request is not None:
            self.peer.send_rtcp(request)
        else:
            self._arm(now)

    def statistics(self) -> IngestStatistics:
        now = time.monotonic()
        if self._lane is not None:
            self._lane.tell()
        tracks = self._tracks
        bitrate, fps = self._reporting.rates(now)
        return IngestStatistics(
            packets=sum(track.packets for track in tracks),
            lost=sum(track.lost for track in tracks),
            nacks=self._video.requested if self._video is not None else 0,
            plis=self._keyframes.sent,
            bitrate=bitrate,
            fps=fps,
            width=self._size[0] if self._size is not None else None,
            height=self._size[1] if self._size is not None else None,
            jitter_ms=tracks[0].jitter * 1000 if tracks else 0.0,
            last_arrival=self._last_arrival,
            keyframe_age=None if self._keyframe_at is None else now - self._keyframe_at,
            malformed=self._malformed,
        )

    def state_changed(self, state: PeerState) -> None:
        super().state_changed(state)
        if state is PeerState.CONNECTED:
            now = time.monotonic()
            self._settled_at = now + SETTLED
            self._reporting.begin(now)
            self._open_lane()
            self._arm(now)
        elif state is PeerState.CLOSED:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._lane is not None:
                self._lane.tell()
                self._reporting.count()
                self._lane.close()
            sink, self._sink = self._sink, Nowhere()  # it may hold the session
            if self._sound is not None:
                self._sound.close()
            sink.closed(self.peer.close_reason)

    # -- media

    def _on_rtp(self, data: bytes, now: float) -> None:
        if self._tap is not None:
            self._tap(data, now)
        try:
            packet = parse_rtp(data)
        except ParseError:
            self._malformed += 1
            return
        self._arrivals.note(packet, now)
        self._packet(packet, now)

    def _packet(self, packet: RtpPacket, now: float) -> None:
        self._last_arrival = now
        sound, video = self._sound, self._video
        wake_at = inf
        if packet.payload_type == self._audio_type and sound is not None:
            sound.feed(packet, now)
            wake_at = sound.audio.wake_at
        elif video is not None:
            if packet.ssrc != video.ssrc and video.ssrc is not None:  # see roaming.py
                self.peer.heard_ssrc = video.ssrc.to_bytes(4, "big")
            estimate = self._estimate
            if estimate is not None and packet.ssrc == video.ssrc and estimate.takes(packet, now):
                told = Remb(self._ssrc, estimate.bitrate, (packet.ssrc,))
                self.peer.send_rtcp(told.serialise())
            lane = self._lane
            if lane is not None and packet.payload_type == self._video_type and lane.active:
                lane.flush()  # by another way, or of another encoder: behind what came before
            for picture in video.feed(packet, now):
                self._picture(picture)
            if lane is not None and packet.marker and not lane.active:
                path = self.peer.heard
                if path is not None and not is_stream(path.address):
                    lane.resume(path, video)
                    self._go_on(video)
            if video.wake_at <= now:
                self._poll_video(video, now)
            wake_at = video.wake_at
        if min(wake_at, self._arrivals.due_at, self._reporting.due_at) < self._timer_at:
            self._arm(now)

    # -- what the native part has done: native_lane.LaneOwner

    def _open_lane(self) -> None:
        peer = self.peer
        if peer.native is None or peer.receiving is None or peer.video is None:
            return
        if self._estimate is not None or self._tap is not None:
            return  # our estimate of its path needs each packet by itself
        self._lane = self._arrivals.lane = self._reporting.lane = peer.native.lane(
            peer.receiving, self._video_type, self._arrivals.extension, self, self._sink.unit
        )
        if self._sound is not None:
            self._sound.lane = self._lane

    def _route(self) -> None:
        """What we send goes another way."""
        lane = self._lane
        if lane is not None:
            lane.take_reports()
            if lane.consent.path is not self.peer.ice.selected:
                lane.consent.leave()
            self._arm(time.monotonic())

    def opened(self, packet: bytes, now: float) -> None:
        assert self._lane is not None
        self.peer.statistics.unprotected += 1
        self.peer.heard = self._lane.path
        try:
            self._packet(parse_rtp(packet), now)
        except ParseError:
            self._malformed += 1

    def assembled(self, annexb: bytes, flags: int, timestamp: int, now: float) -> None:
        video, lane = self._video, self._lane
        assert video is not None
        assert lane is not None
        lane.tell()
        self._last_arrival = now
        for picture in video.assembled(unit_of(annexb, flags), timestamp, now):
            self._picture(picture)
        if video.wake_at <= now:
            self._poll_video(video, now)
        if video.wake_at < self._timer_at:
            self._arm(now)
        self._go_on(video)
        if flags & ARRIVALS:
            self.noted(now)

    def _go_on(self, video: VideoReceiver) -> None:
        """Judge no picture of the native part's while none needs it."""
        shown = self._timeline.shown
        if self._lane is not None and shown is not None and not video.waiting_for_keyframe:
            self._lane.go_on(Standing(*shown, video.pace.state, video.sets.front))

    def sounded(self, run: Run, standing: SoundStanding) -> None:
        assert self._sound is not None
        self._sound.ran(run, standing)
        self.peer.statistics.unprotected += run.packets
        self._last_arrival = max(self._last_arrival or 0.0, standing.arrival)

    def counted(self, run: Run) -> None:
        video, lane, standing = self._video, self._lane, run.standing
        assert video is not None
        assert lane is not None
        video.counted(run)
        self.peer.statistics.unprotected += run.packets
        self.peer.heard_ssrc = lane.ssrc
        if standing is not None:
            self._last_arrival = max(self._last_arrival or 0.0, standing.arrival)
            self._timeline.ran_on(standing.pts, standing.arrival)
            video.pace.state = standing.budget
        if run.keyframe_at:
            self._keyframe_at = run.keyframe_at
            self._keyframes.came()

    def noted(self, now: float) -> None:
        if self._video is not None and self._video.ssrc is not None:
            self._arrivals.noted(self._video.ssrc)

    def told(self, feedback: tuple[int, int]) -> None:
        self._arrivals.told(*feedback)

    def reported(self, highest: int, sound: int | None, due: float) -> None:
        self._reporting.taken(highest, sound, due)

    def _picture(self, picture: Picture) -> None:
        if picture.keyframe:
            self._keyframe_at = picture.arrival
            self._keyframes.came()
            if picture.sps is not None:
                self._size = (picture.sps.width, picture.sps.height)
        pts = self._timeline.video(picture.timestamp, picture.arrival)
        self._sink.unit(
            AccessUnit(Codec.H264, picture.annexb, pts, picture.arrival, picture.keyframe)
        )

    # -- what the publisher is told and asked

    def _on_rtcp(self, data: bytes, now: float) -> None:
        if not self.may_say(now):
            return
        try:
            clocks = self._clocks.read(data)
        except ParseError:
            self._malformed += 1
            return
        for clock in clocks:
            self._sender_report(clock, now)
            if self._lane is not None and now > self._settled_at:
                self._lane.pass_over(clock.ssrc, now + NEXT_CLOCK)

    def _sender_report(self, clock: Clock, now: float) -> None:
        video, audio = self._video, self._audio
        if video is not None and video.sender_report(clock.ssrc, clock.ntp, now):
            codec = Codec.H264
            if self._lane is not None and video.reporting is not None:
                self._lane.heard_clock(video.reporting[2])
        elif audio is not None and audio.sender_report(clock.ssrc, clock.ntp, now):
            codec = Codec.OPUS
            if self._lane is not None and audio.reporting is not None:
                self._lane.heard_clock(audio.reporting[2], sound=True)
        else:
            return
        if video is None or audio is None:
            return  # nothing is to go with it
        if self._lane is not None:
            self._lane.tell()
        self._timeline.sender_report(codec, clock.ntp, clock.timestamp, now)
        self._go_on(video)
        if self._sound is not None:
            self._sound.go_on()  # it may be laid elsewhere now

    def _poll_video(self, video: VideoReceiver, now: float) -> None:
        pictures, nack, keyframe = video.poll(now)
        for picture in pictures:
            self._picture(picture)
        if nack and video.ssrc is not None:
            self.peer.send_rtcp(Nack(self._ssrc, video.ssrc, nack).serialise())
        if keyframe:
            self.request_keyframe()

    # -- the timer

    def _arm(self, now: float) -> None:
        """Be woken when the next thing is due."""
        if self.peer.state is PeerState.CLOSED:
            return
        at = min(self._arrivals.due_at, self._reporting.due_at, self._keyframes.wake_at)
        if self._video is not None:
            at = min(at, self._video.wake_at)
        if self._audio is not None:
            at = min(at, self._audio.wake_at)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = at
        if at < inf:
            delay = max(0.0, at - now) + GRAIN
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = time.monotonic()
        if now >= self._arrivals.due_at:
            self._arrivals.tell()
        if now >= self._reporting.due_at:
            self.noted(now)  # the last ones, where nothing has come since
            self._reporting.tell(now)
        if self._lane is not None and self._keyframes.wake_at < inf:
            self._lane.tell()  # it may have come
        if now >= self._keyframes.wake_at and self._video is not None:
            request = self._keyframes.ask(self._video.ssrc, now)
            if request is not None:
                self.peer.send_rtcp(request)
        if self._video is not None and now >= self._video.wake_at:
            self._poll_video(self._video, now)
        if self._sound is not None and now >= self._sound.audio.wake_at:
            self._sound.poll(now)
        self._arm(now)


def _video_receiver(track: TrackParameters | None) -> VideoReceiver | None:
    if track is None:
        return None
    return VideoReceiver(
        track.payload_type,
        rtx_payload_type=track.rtx_payload_type,
        ssrc=track.remote_ssrc,
        rtx_ssrc=track.remote_rtx_ssrc,
        nack="nack" in track.feedback,
    )
