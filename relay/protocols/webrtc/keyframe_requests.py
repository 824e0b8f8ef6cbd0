"""When a publisher is asked for a key frame, and in which words. Pure."""

from __future__ import annotations

from math import inf
from typing import Final

from relay.protocols.webrtc.negotiation import TrackParameters
from relay.protocols.webrtc.rtcp import FullIntraRequest, PictureLoss

KEYFRAME_INTERVAL: Final = 0.3
"""Seconds between two requests for a key frame."""


class KeyframeRequests:
    """Asks one track at most once in KEYFRAME_INTERVAL.

    A request too soon after another is kept, and dropped when a key frame comes.

    Attributes:
        sent: how many there were.
        wake_at: when a kept one is to be sent, by ``ask``.
    """

    def __init__(self, ssrc: int, track: TrackParameters | None) -> None:
        """
        Args:
            ssrc: our own, as the sender of requests.
        """
        self._ssrc = ssrc
        self._track = track
        self._asked_at = -inf
        self._number = 0  # of a FIR
        self.sent = 0
        self.wake_at = inf

    def request(self, media: int | None, now: float) -> bytes | None:
        """A key frame is wanted of that SSRC: the packet to send now, if any."""
        if now >= self._asked_at + KEYFRAME_INTERVAL:
            return self.ask(media, now)
        self.wake_at = self._asked_at + KEYFRAME_INTERVAL
        return None

    def ask(self, media: int | None, now: float) -> bytes | None:
        """The packet that asks; None where it is not known whom."""
        self.wake_at = inf
        track = self._track
        if track is None:
            return None
        media = track.remote_ssrc if media is None else media
        if media is None:
            return None
        self._asked_at = now
        self.sent += 1
        if "ccm fir" in track.feedback and "nack pli" not in track.feedback:
            self._number = (self._number + 1) & 0xFF
            return FullIntraRequest(self._ssrc, ((media, self._number),)).serialise()
        return PictureLoss(self._ssrc, media).serialise()

    def came(self) -> None:
        """A key frame: what was kept is done."""
        self.wake_at = inf
