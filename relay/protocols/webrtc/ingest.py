"""WHIP: one publisher's media in, access units out.

Everything happens in the read of the shared socket; there is no task and no queue, only
one timer a session: requests for what is missing, reports, congestion feedback.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol

from relay.errors import ParseError
from relay.media.timeline import Timeline
from relay.media.unit import AccessUnit, Codec
from relay.protocols.webrtc.congestion import INTERVAL, FeedbackBuilder
from relay.protocols.webrtc.negotiation import TRANSPORT_CC, TrackParameters
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.receive import Picture, VideoReceiver
from relay.protocols.webrtc.receive_audio import AudioReceiver
from relay.protocols.webrtc.remb import ReceiverEstimate
from relay.protocols.webrtc.rtcp import (
    FullIntraRequest,
    Nack,
    PictureLoss,
    ReceiverReport,
    Remb,
    SenderReport,
    SourceDescription,
    compound,
    parse_compound,
)
from relay.protocols.webrtc.rtp import RtpPacket, parse_rtp, transport_sequence
from relay.protocols.webrtc.session import Session

REPORT_INTERVAL: Final = 1.0

KEYFRAME_INTERVAL: Final = 0.3
"""Seconds between two requests for a key frame."""

_FEEDBACK_AT_ONCE: Final = 200  # arrivals that do not wait for the interval


class IngestSink(Protocol):
    """Where a publisher's media goes. Both are called from the loop and must not wait."""

    def unit(self, unit: AccessUnit) -> None:
        """The next access unit; ``pts`` is on the publisher's own line, near 0 at first."""

    def closed(self, reason: str) -> None:
        """The session is over. Called once."""


@dataclass(frozen=True, slots=True)
class IngestStatistics:
    """What came of one publisher.

    Attributes:
        packets, lost: RTP, of both tracks; lost on the way, recovered or not.
        nacks: packets asked for again, each time counted.
        plis: key frames asked for.
        bitrate: bits a second of payload, over the last second.
        fps: pictures a second, likewise.
        width, height: of the last key frame, None before.
        jitter_ms: of the video, or of the audio where there is no video.
        last_arrival: ``time.monotonic()`` of the last packet, None before.
        keyframe_age: seconds since the last key frame, None before.
        malformed: packets that could not be read.
    """

    packets: int
    lost: int
    nacks: int
    plis: int
    bitrate: int
    fps: float
    width: int | None
    height: int | None
    jitter_ms: float
    last_arrival: float | None
    keyframe_age: float | None
    malformed: int


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

    def __init__(self, peer: Peer, sink: IngestSink) -> None:
        super().__init__(peer)
        self._sink = sink
        self.has_video = peer.video is not None
        self.has_audio = peer.audio is not None
        self._video = _video_receiver(peer.video)
        self._audio = AudioReceiver(peer.audio.payload_type) if peer.audio is not None else None
        self._audio_type = peer.audio.payload_type if peer.audio is not None else -1
        first = peer.video or peer.audio
        self._ssrc = first.ssrc if first is not None else 0
        self._extension = first.extensions.get(TRANSPORT_CC) if first is not None else None
        self._feedback = FeedbackBuilder(self._ssrc)
        self._estimate = ReceiverEstimate() if _wants_remb(peer.video) else None
        self._timeline = Timeline()
        self._rates = _Rates()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._feedback_at = inf
        self._report_at = inf
        self._last_arrival: float | None = None
        self._keyframe_at: float | None = None
        self._size: tuple[int, int] | None = None
        self._asked_at = -inf
        self._ask_again_at = inf
        self._fir = 0
        self._plis = 0
        self._malformed = 0
        peer.on_rtp = self._on_rtp
        peer.on_rtcp = self._on_rtcp

    # -- what the owner calls

    def request_keyframe(self) -> None:
        """Ask the publisher for a key frame, at most once in KEYFRAME_INTERVAL.

        A request too soon after another is kept, and dropped when a key frame comes.
        """
        now = time.monotonic()
        if now >= self._asked_at + KEYFRAME_INTERVAL:
            self._ask_for_keyframe(now)
        else:
            self._ask_again_at = self._asked_at + KEYFRAME_INTERVAL
            self._arm(now)

    def statistics(self) -> IngestStatistics:
        now = time.monotonic()
        tracks = [track for track in (self._video, self._audio) if track is not None]
        bitrate, fps = self._rates.read(now, self._octets(), self._frames())
        return IngestStatistics(
            packets=sum(track.packets for track in tracks),
            lost=sum(track.lost for track in tracks),
            nacks=self._video.requested if self._video is not None else 0,
            plis=self._plis,
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
            self._report_at = time.monotonic() + REPORT_INTERVAL
            self._arm(time.monotonic())
        elif state is PeerState.CLOSED:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._sink.closed(self.peer.close_reason)

    # -- media

    def _on_rtp(self, data: bytes, now: float) -> None:
        try:
            packet = parse_rtp(data)
        except ParseError:
            self._malformed += 1
            return
        self._last_arrival = now
        if self._extension is not None:
            self._note_arrival(packet, self._extension, now)
        audio, video = self._audio, self._video
        wake_at = min(self._feedback_at, self._report_at)
        if packet.payload_type == self._audio_type and audio is not None:
            for sound in audio.feed(packet, now):
                pts = self._timeline.audio(sound.timestamp, sound.arrival)
                self._sink.unit(AccessUnit(Codec.OPUS, sound.payload, pts, sound.arrival))
            wake_at = min(wake_at, audio.wake_at)
        elif video is not None:
            if self._estimate is not None and packet.ssrc == video.ssrc:
                self._tell_estimate(self._estimate, packet, now)
            for picture in video.feed(packet, now):
                self._picture(picture)
            if video.wake_at <= now:
                self._poll_video(video, now)
            wake_at = min(wake_at, video.wake_at)
        if wake_at < self._timer_at:
            self._arm(now)

    def _note_arrival(self, packet: RtpPacket, extension: int, now: float) -> None:
        sequence = transport_sequence(packet, extension)
        if sequence is None:
            return
        feedback = self._feedback
        feedback.arrived(sequence, packet.ssrc, now)
        if self._feedback_at == inf:
            self._feedback_at = now + INTERVAL
        elif feedback.pending >= _FEEDBACK_AT_ONCE:
            self._send_feedback()

    def _tell_estimate(self, estimate: ReceiverEstimate, packet: RtpPacket, now: float) -> None:
        estimate.arrived(packet.timestamp, len(packet.payload), now)
        if estimate.due(now):
            estimate.told(now)
            ssrcs = (packet.ssrc,)
            self.peer.send_rtcp(Remb(self._ssrc, estimate.bitrate, ssrcs).serialise())

    def _picture(self, picture: Picture) -> None:
        if picture.keyframe:
            self._keyframe_at = picture.arrival
            self._ask_again_at = inf
            if picture.sps is not None:
                self._size = (picture.sps.width, picture.sps.height)
        pts = self._timeline.video(picture.timestamp, picture.arrival)
        self._sink.unit(
            AccessUnit(Codec.H264, picture.annexb, pts, picture.arrival, picture.keyframe)
        )

    # -- what the publisher is told and asked

    def _on_rtcp(self, data: bytes, now: float) -> None:
        try:
            packets = parse_compound(data)
        except ParseError:
            self._malformed += 1
            return
        for packet in packets:
            if isinstance(packet, SenderReport):
                self._sender_report(packet, now)

    def _sender_report(self, report: SenderReport, now: float) -> None:
        tracks = ((Codec.H264, self._video), (Codec.OPUS, self._audio))
        for codec, track in tracks:
            if track is not None and track.sender_report(report.ssrc, report.ntp, now):
                self._timeline.sender_report(codec, report.ntp, report.timestamp, now)

    def _poll_video(self, video: VideoReceiver, now: float) -> None:
        pictures, nack, keyframe = video.poll(now)
        for picture in pictures:
            self._picture(picture)
        if nack and video.ssrc is not None:
            self.peer.send_rtcp(Nack(self._ssrc, video.ssrc, nack).serialise())
        if keyframe:
            self.request_keyframe()

    def _ask_for_keyframe(self, now: float) -> None:
        track = self.peer.video
        if track is None or self._video is None:
            return
        media = self._video.ssrc if self._video.ssrc is not None else track.remote_ssrc
        if media is None:
            return
        self._asked_at = now
        self._ask_again_at = inf
        self._plis += 1
        if "ccm fir" in track.feedback and "nack pli" not in track.feedback:
            self._fir = (self._fir + 1) & 0xFF
            request = FullIntraRequest(self._ssrc, ((media, self._fir),)).serialise()
        else:
            request = PictureLoss(self._ssrc, media).serialise()
        self.peer.send_rtcp(request)

    def _send_feedback(self) -> None:
        self._feedback_at = inf
        for feedback in self._feedback.build():
            self.peer.send_rtcp(feedback.serialise())

    def _send_report(self, now: float) -> None:
        found = [t.report(now) for t in (self._video, self._audio) if t is not None]
        blocks = tuple(block for block in found if block is not None)
        if self._estimate is not None and found[0] is not None:
            self._estimate.lost(found[0].fraction_lost / 256, now)
        names = SourceDescription(((self._ssrc, self.peer.id),))
        self.peer.send_rtcp(compound([ReceiverReport(self._ssrc, blocks), names]))
        self._rates.sample(now, self._octets(), self._frames())

    def _octets(self) -> int:
        return sum(t.octets for t in (self._video, self._audio) if t is not None)

    def _frames(self) -> int:
        return self._video.frames if self._video is not None else 0

    # -- the timer

    def _arm(self, now: float) -> None:
        """Be woken when the next thing is due."""
        if self.peer.state is PeerState.CLOSED:
            return
        at = min(self._feedback_at, self._report_at, self._ask_again_at)
        if self._video is not None:
            at = min(at, self._video.wake_at)
        if self._audio is not None:
            at = min(at, self._audio.wake_at)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = at
        if at < inf:
            delay = max(0.0, at - now)
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = time.monotonic()
        if now >= self._feedback_at:
            self._send_feedback()
        if now >= self._report_at:
            self._report_at = now + REPORT_INTERVAL
            self._send_report(now)
        if now >= self._ask_again_at:
            self._ask_for_keyframe(now)
            self._ask_again_at = inf
        if self._video is not None and now >= self._video.wake_at:
            self._poll_video(self._video, now)
        if self._audio is not None and now >= self._audio.wake_at:
            for sound in self._audio.poll(now):
                pts = self._timeline.audio(sound.timestamp, sound.arrival)
                self._sink.unit(AccessUnit(Codec.OPUS, sound.payload, pts, sound.arrival))
        self._arm(now)


class _Rates:
    """Bits and pictures a second, over about the last second."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._octets = 0
        self._frames = 0
        self._last: tuple[int, float] | None = None

    def sample(self, now: float, octets: int, frames: int) -> None:
        self._last = self._since(now, octets, frames)
        self._at, self._octets, self._frames = now, octets, frames

    def read(self, now: float, octets: int, frames: int) -> tuple[int, float]:
        return self._since(now, octets, frames) if self._last is None else self._last

    def _since(self, now: float, octets: int, frames: int) -> tuple[int, float]:
        span = max(0.001, now - self._at)
        return round((octets - self._octets) * 8 / span), (frames - self._frames) / span


def _wants_remb(track: TrackParameters | None) -> bool:
    """Whether the publisher takes our estimate, and has no feedback for one of its own."""
    return track is not None and "goog-remb" in track.feedback


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
