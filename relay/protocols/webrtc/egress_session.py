"""A viewer's WHEP session: what it is sent by, what it reports, when it comes and goes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from relay.errors import ParseError
from relay.protocols.webrtc.fanout import OutgoingTrack, log_identifier
from relay.protocols.webrtc.link import Link
from relay.protocols.webrtc.native_fanout import NativeSender
from relay.protocols.webrtc.native_track import NativeSendLog, NativeTrack
from relay.protocols.webrtc.native_viewer import NativeViewer
from relay.protocols.webrtc.negotiation import TrackParameters
from relay.protocols.webrtc.path import is_stream
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.rtcp import (
    SourceDescription,
    compound,
    lone_report,
    parse_compound,
)
from relay.protocols.webrtc.sendlog import SendLog
from relay.protocols.webrtc.session import Session, short
from relay.protocols.webrtc.srtp import SrtpError
from relay.protocols.webrtc.viewer import Viewer, ViewerState


class Audience(Protocol):
    """Whom a session belongs to."""

    def start(self, session: EgressSession, now: float) -> None: ...

    def drop(self, session: EgressSession) -> None: ...

    def want_keyframe(self, now: float) -> None: ...

    def pause(self, session: EgressSession) -> None: ...


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
    estimate: float | None = None
    """Bits a second that its path carries, None where nothing was heard of it."""
    queue_delay: float | None = None
    """Seconds that packets wait in the network; None without transport-wide feedback."""
    pauses: int = 0
    """How often its video was stopped since the path was too small for it."""
    process: int = 0
    """Which egress process serves it; 0 is the gateway itself."""


class EgressSession(Session):
    """A viewer of one rendition."""

    def __init__(self, peer: Peer, audience: Audience, native: NativeSender | None) -> None:
        super().__init__(peer)
        log = _log(peer, native)
        video = _track(peer.video, peer, native, log)
        audio = _track(peer.audio, peer, native, log)
        self.viewer = Viewer(short(self.id), video, audio, Link(log))
        self._audience = audience
        peer.log_level = logging.DEBUG  # the viewer tells when it goes
        peer.on_rtcp = self._on_rtcp
        peer.unread = self.viewer.link.leaves
        peer.on_route = self._route

    def _route(self) -> None:
        for track in (self.viewer.video, self.viewer.audio):
            if track is not None:
                track.route(self.peer.sending, self.peer.address)
        self._hear()

    def _hear(self) -> None:
        """Have what it sends read natively, where that is built and it comes by UDP."""
        peer, path = self.peer, self.peer.ice.selected
        if peer.receiving is None or path is None or is_stream(path.address):
            if peer.hearing is not None:
                peer.hearing.close()
                peer.hearing = None
            return
        if peer.hearing is None and peer.native is not None:
            tracks = (self.viewer.video, self.viewer.audio)
            video, audio = (0 if track is None else track.ssrc for track in tracks)
            log = self.viewer.link.log
            known = log if isinstance(log, NativeSendLog) else None
            keys, trailer = peer.receiving, peer.rtcp_trailer
            peer.hearing = NativeViewer(
                peer.native, keys, trailer, (video, audio), peer.on_rtcp, known
            )
            peer.hearing.send_again(tracks)
        if peer.hearing is not None:
            peer.hearing.hear(path)
            self.attend()

    def attend(self) -> None:
        """To be called now and then: look at what was read natively."""
        hearing, ice = self.peer.hearing, self.peer.ice
        if hearing is not None:
            self._take_reports()
            if not hearing.consent.settled:
                hearing.consent.settle(moving=ice.controlling or ice.credentials.several)
            track = next(iter(self.viewer.tracks), None)
            if isinstance(track, NativeTrack):
                hearing.ask_with(track, ice.tie_breaker)
            self._expect(time.monotonic())

    def ask(self, now: float) -> None:
        """A check of ours that left natively was not answered: ask, and again, from here."""
        path = self.peer.ice.selected
        if path is not None:
            path.next_check = now
            self.peer.ice.on_schedule(now)

    def _take_reports(self) -> None:
        if self.peer.hearing is not None:
            for at, block in self.peer.hearing.reports():
                self.viewer.note_report(block, at)
            self.viewer.note_resent(self.peer.hearing.sent_again())

    def _expect(self, now: float) -> None:
        if self.peer.hearing is not None:
            self.peer.hearing.expect(self.viewer.link, self.viewer.may_resend(now))

    @property
    def streamed(self) -> bool:
        """Whether the viewer is reached by TCP."""
        address = self.peer.address
        return address is not None and is_stream(address)

    def state_changed(self, state: PeerState) -> None:
        super().state_changed(state)
        if state is PeerState.CONNECTED:
            self._audience.start(self, time.monotonic())
        elif state is PeerState.CLOSED:
            self.viewer.gone(self.peer.close_reason, time.monotonic())
            self._audience.drop(self)

    def statistics(self, now: float) -> ViewerStatistics:
        self.attend()
        if self.peer.hearing is not None:
            self.peer.ice.statistics.answered += self.peer.hearing.count(self.peer.statistics)
        viewer, counters = self.viewer, self.viewer.counters
        tracks = [track for track in (viewer.video, viewer.audio) if track is not None]
        at, link = viewer.connected_at, viewer.link
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
            estimate=link.estimator.bitrate if link.known else None,
            queue_delay=link.estimator.queue if link.known and link.log is not None else None,
            pauses=link.stops,
        )

    def report(self, ntp: int, line_seconds: float) -> None:
        """Send a sender report for each track that has begun."""
        viewer = self.viewer
        reports = [
            track.sender_report(ntp, line_seconds)
            for track in (viewer.video, viewer.audio)
            if track is not None and track.packets
        ]
        if reports:
            names = SourceDescription(tuple((report.ssrc, self.peer.id) for report in reports))
            self.peer.send_rtcp(compound([*reports, names]))

    def _on_rtcp(self, data: bytes, now: float) -> None:
        self._take_reports()  # they came before it
        if self.may_say(now):
            self._take_rtcp(data, now)
        self._expect(now)

    def _take_rtcp(self, data: bytes, now: float) -> None:
        viewer = self.viewer
        block = lone_report(data)
        if block is not None:
            viewer.note_report(block, now)
            if viewer.weigh(now):
                self._audience.pause(self)
            return
        try:
            packets = parse_compound(data)
        except ParseError:
            return  # one compound lost; the next says the same again
        again, keyframe = viewer.feedback(packets, now)
        self.send(again)
        if viewer.weigh(now):
            self._audience.pause(self)
        elif keyframe and viewer.state is not ViewerState.PAUSED:
            self._audience.want_keyframe(now)

    def send(self, packets: Iterable[bytes]) -> None:
        """Packets to this viewer alone."""
        try:
            for packet in packets:
                self.peer.send_rtp(packet)
        except SrtpError as error:
            self.peer.end(f"SRTP failed: {error}")


def _log(peer: Peer, native: NativeSender | None) -> SendLog | None:
    """One for both tracks of the viewer, where it answers transport-wide numbers."""
    tracks = [track for track in (peer.video, peer.audio) if track is not None]
    found = [number for track in tracks if (number := log_identifier(track)) is not None]
    if not found:
        return None
    return SendLog(found[0]) if native is None else native.log(found[0])


def _track(
    parameters: TrackParameters | None,
    peer: Peer,
    native: NativeSender | None,
    log: SendLog | None,
) -> OutgoingTrack | None:
    if parameters is None:
        return None
    if log is not None and log_identifier(parameters) != log.identifier:
        log = None  # its packets are not counted
    if native is None:
        return OutgoingTrack(parameters, peer, log)
    assert log is None or isinstance(log, NativeSendLog)
    return native.track(parameters, peer, peer.id, log)
