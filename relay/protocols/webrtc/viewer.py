"""One viewer of a rendition: when its video begins, what it asked for, what it is sent again.

Pure but for the sending itself: ``now`` comes in.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from relay.errors import ParseError
from relay.protocols.webrtc.fanout import MAX_PAYLOAD, OutgoingTrack
from relay.protocols.webrtc.link import PROBE_PACKETS, Link
from relay.protocols.webrtc.rtcp import (
    TRANSPORT_FEEDBACK,
    TWCC_FORMAT,
    Bye,
    FullIntraRequest,
    Nack,
    PictureLoss,
    ReceiverReport,
    Remb,
    ReportBlock,
    Rtcp,
    Unknown,
)
from relay.states import StateMachine

_log = logging.getLogger(__name__)

CATCH_UP_FIRST: Final = 64
"""Packets that leave at once when a viewer is started: a whole key frame, mostly."""

CATCH_UP_PACKETS: Final = 32
"""Packets a step after that."""

CATCH_UP_STEP: Final = 0.005
"""Seconds between steps: 60 Mbit/s, which a line of some breadth takes without loss."""

CATCH_UP_RATE: Final = CATCH_UP_PACKETS * MAX_PAYLOAD / CATCH_UP_STEP
"""Bytes a second, that is."""

SQUEEZED: Final = 90
"""Ticks of 90 kHz between pictures that are caught up with: about the pace they leave at,
so that the viewer's clock estimate is not disturbed."""

MAX_BACKLOG: Final = 8 << 20
"""Bytes that a viewer may still have to catch up with."""

REPORTS_KEPT: Final = 8
"""Sender reports of which a round trip is still taken."""

_RESEND_BURST: Final = 256.0
_RESEND_RATE: Final = 1000.0  # packets a second


class Frame(NamedTuple):
    """A video frame as it is kept: the payloads are shared by all viewers."""

    payloads: Sequence[bytes]
    octets: int
    timestamp: int


class ViewerState(Enum):
    CONNECTING = "connecting"
    WAITING = "waiting"  # for a key frame
    CATCHING_UP = "catching up"  # with the group of pictures
    LIVE = "live"
    PAUSED = "paused"  # its link is too small for the video
    GONE = "gone"


_TABLE: Final = {
    ViewerState.CONNECTING: frozenset(
        (ViewerState.WAITING, ViewerState.CATCHING_UP, ViewerState.LIVE, ViewerState.GONE)
    ),
    ViewerState.WAITING: frozenset((ViewerState.CATCHING_UP, ViewerState.LIVE, ViewerState.GONE)),
    ViewerState.CATCHING_UP: frozenset((ViewerState.WAITING, ViewerState.LIVE, ViewerState.GONE)),
    ViewerState.LIVE: frozenset((ViewerState.PAUSED, ViewerState.GONE)),
    ViewerState.PAUSED: frozenset((ViewerState.WAITING, ViewerState.GONE)),
    ViewerState.GONE: frozenset[ViewerState](),
}


@dataclass(slots=True)
class Counters:
    nacked: int = 0  # packets asked for
    too_old: int = 0  # asked for, and not kept any more
    over_budget: int = 0  # asked for too fast
    keyframes_asked: int = 0
    fraction_lost: float = 0.0  # as last reported
    jitter: float = 0.0  # seconds, as last reported
    round_trip: float | None = None  # seconds


class Viewer:
    """What one viewer gets.

    Attributes:
        video, audio: None where not negotiated.
        audio_open: whether audio flows.
        connected_at: monotonic seconds, None before.
        link: what its path carries.
        reports: sender reports that have left lately: the middle of their NTP time, and when. The
            echo of one gives the round trip.
    """

    def __init__(
        self,
        name: str,
        video: OutgoingTrack | None,
        audio: OutgoingTrack | None,
        link: Link | None = None,
    ) -> None:
        self.name = name
        self.link = Link(None) if link is None else link
        self.video = video
        self.audio = audio
        self.audio_open = False
        self.connected_at: float | None = None
        self.counters = Counters()
        self._backlog: deque[Frame] = deque()
        self._backlog_octets = 0
        self._squeezed = 0  # how many of the backlog are of the group that was there before
        self._group_ends = 0  # at this timestamp
        self._tokens = _RESEND_BURST
        self._filled_at = 0.0
        self.reports: deque[tuple[int, float]] = deque(maxlen=REPORTS_KEPT)
        # One line of the log, when it goes; a crowd's other changes would fill it.
        self._machine = StateMachine(
            f"viewer {name}", ViewerState.CONNECTING, _TABLE, log=_log, level=logging.DEBUG
        )

    @property
    def state(self) -> ViewerState:
        return self._machine.state

    @property
    def tracks(self) -> list[OutgoingTrack]:
        return [track for track in (self.video, self.audio) if track is not None]

    # -- how video begins

    def connected(self, group: Sequence[Frame], *, has_video: bool, now: float) -> None:
        """Begin: with the group of pictures if there is one, else with the next key frame.

        Args:
            has_video: whether the rendition has had any video yet.
        """
        self.connected_at = now
        if self.video is None:
            self._machine.to(ViewerState.LIVE, "audio only")
            self.audio_open = True
            return
        if group:
            self._group_ends = group[-1].timestamp
            self._squeezed = count = len(group)
            self._backlog.extend(group)
            self._backlog_octets = sum(frame.octets for frame in group)
            self._machine.to(ViewerState.CATCHING_UP, f"{count} pictures")
            self.audio_open = True
            self._pump(CATCH_UP_FIRST)
        else:
            self._machine.to(ViewerState.WAITING)
            self.audio_open = not has_video

    def frame(self, frame: Frame, *, keyframe: bool) -> bool:
        """A new picture, for a viewer that is not LIVE.

        Returns:
            Whether it is to be sent live, this one included.
        """
        state = self._machine.state
        if state is ViewerState.CATCHING_UP:
            if keyframe:
                self._backlog.clear()  # nobody needs what came before it
                self._machine.to(ViewerState.LIVE)
                return True
            self._backlog.append(frame)
            self._backlog_octets += frame.octets
            if self._backlog_octets > MAX_BACKLOG:
                self._backlog.clear()
                self._machine.to(ViewerState.WAITING, "too far behind")
        elif state is ViewerState.WAITING and keyframe:
            self._machine.to(ViewerState.LIVE)
            self.audio_open = True
            return True
        return False

    def pump(self) -> bool:
        """Send the next part of the backlog; whether the viewer is LIVE with it."""
        if self._machine.state is ViewerState.CATCHING_UP:
            self._pump(CATCH_UP_PACKETS)
        return self._machine.state is ViewerState.LIVE

    def _pump(self, budget: int) -> None:
        track = self.video
        assert track is not None
        while self._backlog and budget > 0:
            payloads, octets, timestamp = self._backlog.popleft()
            if self._squeezed > 0:
                self._squeezed -= 1
                timestamp = self._group_ends - self._squeezed * SQUEEZED
            track.send_alone(payloads, timestamp, marker=True)
            self._backlog_octets -= octets
            budget -= len(payloads)
        if not self._backlog:
            self._machine.to(ViewerState.LIVE)

    def trim(self) -> None:
        """To be called now and then: what nobody will ask for again is let go of."""
        for track in (self.video, self.audio):
            if track is not None:
                track.trim()

    def gone(self, reason: str, now: float) -> None:
        self._backlog.clear()
        self.audio_open = False
        if self.connected_at is not None:
            reason = f"{reason}, after {now - self.connected_at:.1f} s"
        self._machine.to(ViewerState.GONE, reason, level=logging.INFO)

    # -- when its link is too small

    def weigh(self, now: float) -> bool:
        """To be called after feedback: whether the viewer is PAUSED with it."""
        if self._machine.state is not ViewerState.LIVE or self.video is None:
            return False
        if not self.link.too_small(now):
            return False
        self.link.stop(now, trains=self.video.rtx_ssrc is not None)
        estimate = self.link.estimator.bitrate / 1000
        self._machine.to(ViewerState.PAUSED, f"the link carries {estimate:.0f} kbit/s")
        return True

    def try_again(self, now: float) -> list[bytes]:
        """To be called now and then while PAUSED; it ends that when the link is good again.

        Returns:
            RTP packets to send, by which the link is measured.
        """
        link, track = self.link, self.video
        if self._machine.state is not ViewerState.PAUSED or track is None:
            return []
        if link.log is None or track.rtx_ssrc is None:
            if link.blind(now):
                self._resume(now)
            return []
        if link.ready():
            self._resume(now)
            return []
        if not link.train_due(now):
            return []
        first = link.log.next
        # Old packets once more: the receiver drops them, and they are of full size.
        newest = track.sequence - 1
        found = (track.retransmission((newest - back) & 0xFFFF) for back in range(PROBE_PACKETS))
        train = [packet for packet in found if packet is not None]
        link.train_sent(first, len(train), now)
        return train

    def _resume(self, now: float) -> None:
        self.link.resume(now)
        self._machine.to(ViewerState.WAITING, "the link may carry the video again")

    # -- what it tells and asks

    def feedback(self, packets: Iterable[Rtcp], now: float) -> tuple[list[bytes], bool]:
        """Take in what the viewer sent.

        Returns:
            RTP packets to send again, and whether it asks for a key frame.
        """
        again: list[bytes] = []
        keyframe = False
        for packet in packets:
            if isinstance(packet, ReceiverReport):  # by far the most
                for block in packet.blocks:
                    self.note_report(block, now)
            elif isinstance(packet, Nack):
                self._resend(packet, now, again)
            elif isinstance(packet, PictureLoss):
                keyframe = keyframe or self._is_video(packet.media)
            elif isinstance(packet, FullIntraRequest):
                asked = any(self._is_video(ssrc) for ssrc, _ in packet.requests)
                keyframe = keyframe or asked
            elif isinstance(packet, Unknown):
                if (packet.kind, packet.count) == (TRANSPORT_FEEDBACK, TWCC_FORMAT):
                    self._note_feedback(packet.body, now)
            elif isinstance(packet, Remb):
                self.link.told(packet.bitrate, now)
            elif isinstance(packet, Bye):
                continue  # its receiver's SSRC; the connection's own end is what counts
        if keyframe:
            self.counters.keyframes_asked += 1
        return again, keyframe

    def _note_feedback(self, body: bytes, now: float) -> None:
        try:
            self.link.feedback(body, now)
        except ParseError:
            return  # the next one says where things stand

    def _is_video(self, ssrc: int) -> bool:
        return self.video is not None and ssrc in (self.video.ssrc, self.video.rtx_ssrc)

    def _resend(self, nack: Nack, now: float, again: list[bytes]) -> None:
        track = next(
            (t for t in (self.video, self.audio) if t is not None and t.ssrc == nack.media), None
        )
        if track is None:
            return
        self.may_resend(now)
        counters = self.counters
        counters.nacked += len(nack.sequences)
        if track is self.video and self._machine.state is ViewerState.PAUSED:
            return  # nothing is built on what was lost; the sound has the link
        for index, sequence in enumerate(nack.sequences):
            if self._tokens < 1:
                counters.over_budget += len(nack.sequences) - index
                return
            self._tokens -= 1
            packet = track.retransmission(sequence)
            if packet is None:
                counters.too_old += 1
            else:
                again.append(packet)

    def may_resend(self, now: float) -> int:
        """Packets that may be sent again at once."""
        if now > self._filled_at:
            self._tokens += (now - self._filled_at) * _RESEND_RATE
            self._tokens = min(self._tokens, _RESEND_BURST)
            self._filled_at = now
        return max(0, int(self._tokens))

    def note_resent(self, count: int) -> None:
        """So many were asked for and sent again natively, of those that may be."""
        self._tokens -= count
        self.counters.nacked += count

    def note_report(self, block: ReportBlock, now: float) -> None:
        """One block of a receiver report; ``weigh`` is to be called after it."""
        track = self.video
        if track is None or track.ssrc != block.ssrc:
            track = self.audio
        if track is None or track.ssrc != block.ssrc:
            return
        if track is self.video or self.video is None:
            self.counters.fraction_lost = block.fraction_lost / 256
            self.counters.jitter = block.jitter / track.clock_rate
            self.link.report(self.counters.fraction_lost, track.octets, now)
        for middle, sent_at in self.reports:
            if middle == block.last_report:
                trip = now - sent_at - block.delay / 65536
                if trip >= 0:
                    self.counters.round_trip = trip
