"""Receiver reports to one publisher: one a second, natively as long as all is in order."""

from __future__ import annotations

from math import inf
from typing import Final

from relay.protocols.webrtc.ingest_statistics import Rates
from relay.protocols.webrtc.native_lane import Lane
from relay.protocols.webrtc.peer import Peer
from relay.protocols.webrtc.receive import VideoReceiver
from relay.protocols.webrtc.receive_audio import AudioReceiver
from relay.protocols.webrtc.remb import ReceiverEstimate
from relay.protocols.webrtc.rtcp import ReceiverReport, SourceDescription

REPORT_INTERVAL: Final = 1.0

ATTENDED: Final = 5.0
"""Seconds between two looks at what leaves natively."""


class ReceiverReports:
    """
    Attributes:
        lane: the video in native hands, where it is.
        due_at: when to ``tell``.
    """

    def __init__(
        self,
        ssrc: int,
        peer: Peer,
        video: VideoReceiver | None,
        audio: AudioReceiver | None,
        estimate: ReceiverEstimate | None,
    ) -> None:
        """
        Args:
            ssrc: our own, as the sender of reports.
            estimate: is told of losses.
        """
        self._ssrc = ssrc
        self._peer = peer
        self._video = video
        self._audio = audio
        self._tracks = [track for track in (video, audio) if track is not None]
        self._estimate = estimate
        self._name = SourceDescription(((ssrc, peer.id),)).serialise()
        self._rates = Rates()
        self.lane: Lane | None = None
        self.due_at = inf

    def begin(self, now: float) -> None:
        self.due_at = now + REPORT_INTERVAL

    def tell(self, now: float) -> None:
        """Report, or look after what leaves natively."""
        lane = self.lane
        if lane is not None:
            lane.tell()
            self.count()
        if lane is None or not lane.reports(now):
            if lane is not None:
                lane.take_reports()
            self._send(now)
        self.due_at = now + (ATTENDED if self._attend(now) else REPORT_INTERVAL)
        self.rates(now)

    def rates(self, now: float) -> tuple[int, float]:
        """Bits and pictures a second, lately."""
        octets = sum([track.octets for track in self._tracks])
        return self._rates.read(now, octets, self._video.frames if self._video is not None else 0)

    def count(self) -> None:
        """Add what was counted natively since the last call."""
        if self.lane is not None:
            self.lane.count(self._peer.statistics)
            if answered := self.lane.consent.count():
                self._peer.ice.statistics.answered += answered

    def taken(self, highest: int, sound: int | None, due: float) -> None:
        """They were told natively up to there: they leave from here again, until all is in order
        once more."""
        if self._video is not None:
            self._video.reported(highest)
        if self._audio is not None and sound is not None:
            self._audio.reported(sound)
        self.due_at = due

    def _send(self, now: float) -> None:
        found = [track.report(now) for track in self._tracks]
        if self._estimate is not None and found[0] is not None:
            self._estimate.lost(found[0].fraction_lost / 256, now)
        blocks = tuple([block for block in found if block is not None])
        self._peer.send_rtcp(ReceiverReport(self._ssrc, blocks).serialise() + self._name)

    def _attend(self, now: float) -> bool:
        """Have the next ones leave natively where they can; whether they do.

        Only from where media comes to where we send, and about what is in native hands.
        """
        lane, peer, video = self.lane, self._peer, self._video
        path = peer.ice.selected
        if lane is None or video is None or path is None or lane.path is not path:
            return False
        sound = None if self._audio is None else self._audio.reporting
        if not lane.active or peer.sending is None or (sound is not None and not lane.sounds):
            return False
        if not lane.reports(now):
            if (reporting := video.reporting) is None:
                return False
            lane.give_reports(reporting, sound, self._ssrc, self._name, peer.sending, now)
        if lane.consent.path is not path:
            lane.consent.hear(path)
        if not lane.consent.settled:
            lane.consent.settle(moving=peer.ice.controlling or peer.ice.credentials.several)
        lane.consent.ask(peer.ice.tie_breaker)
        return True
