"""Clocks that run over, start anywhere and jump, laid on one line of 1/90000 s."""

from __future__ import annotations

from typing import Final

from relay.media.audio import OPUS_CLOCK
from relay.media.unit import VIDEO_CLOCK, Codec

MAX_JUMP: Final = 10 * VIDEO_CLOCK
"""A step of media time over this, which the wall clock does not confirm, is a new clock."""

MAX_BACK: Final = VIDEO_CLOCK // 2
"""So is a step back over this: no packets are as late as that, and whoever shows pictures shows
none that is older than the last."""

SYNC_TOLERANCE: Final = VIDEO_CLOCK // 50
"""20 ms: lips are moved only for an error that someone could see (EBU R37: 40 ms early)."""

MAX_SYNC: Final = VIDEO_CLOCK
"""Sender reports that contradict the arrival by more than 1 s do not share one NTP clock."""

_MASK: Final = (1 << 32) - 1


class Unwrapper:
    """Makes a counter of so many bits run on: each value is taken nearest to the last.

    Attributes:
        last: what it was taken as; None before the first.
    """

    __slots__ = ("_half", "_mask", "last")

    def __init__(self, bits: int) -> None:
        self._mask = (1 << bits) - 1
        self._half = 1 << (bits - 1)
        self.last: int | None = None

    def unwrap(self, value: int) -> int:
        """The first value is given back as it is; one may go back below zero after it."""
        last = self.last
        if last is None:
            self.last = value & self._mask
        else:
            self.last = last + ((value - last + self._half) & self._mask) - self._half
        return self.last

    def near(self, value: int) -> int:
        """What unwrap() would give, without remembering it."""
        if self.last is None:
            return value & self._mask
        return self.last + ((value - self.last + self._half) & self._mask) - self._half


class _Track:
    __slots__ = ("arrival", "clock", "counter", "offset", "pts", "report", "ticks")

    def __init__(self, clock: int) -> None:
        self.clock = clock
        self.counter = Unwrapper(32)
        self.offset = 0
        self.ticks = 0  # media time of the last unit, 90 kHz, in the sender's own clock
        self.pts: int | None = None
        self.arrival = 0.0
        self.report: tuple[int, int] | None = None  # NTP, and the RTP timestamp for it

    def to_ticks(self, unwrapped: int) -> int:
        return unwrapped * VIDEO_CLOCK // self.clock


class Timeline:
    """RTP timestamps of one publisher on one 90 kHz line for video and audio.

    The first unit of either is at ``start``. The other track joins by arrival, until sender
    reports of both (RFC 3550 6.4.1) say how they belong together: then the track that lags
    steps on, so that no correction ever goes back. A clock that jumps goes on from the step
    of the wall clock.
    """

    def __init__(self, start: int = 0) -> None:
        self._start = start
        self._video = _Track(VIDEO_CLOCK)
        self._audio = _Track(OPUS_CLOCK)

    def video(self, rtp_timestamp: int, arrival: float) -> int:
        """The pts of a picture; ``arrival`` in monotonic seconds."""
        track = self._video
        step = (rtp_timestamp - track.ticks) & _MASK  # the track's clock is the line's
        if track.pts is not None and step <= MAX_JUMP:
            # One of most: a little later than the one before.
            track.ticks = track.counter.last = track.ticks + step
            track.arrival = arrival
            track.pts = pts = track.ticks + track.offset
            return pts
        return self._place(self._video, self._audio, rtp_timestamp, arrival)

    @property
    def shown(self) -> tuple[int, int, float] | None:
        """Of the last picture the pts, as the line is laid now, the timestamp of 32 bits and the
        arrival; None before the first."""
        track = self._video
        if track.pts is None:
            return None
        return track.ticks + track.offset, track.ticks & _MASK, track.arrival

    def ran_on(self, pts: int, arrival: float) -> None:
        """Pictures were laid on the line elsewhere, from ``shown`` to this one, each a little later
        than the one before."""
        track = self._video
        track.ticks = track.counter.last = pts - track.offset
        track.pts, track.arrival = pts, arrival

    @property
    def heard(self) -> tuple[int, int, float] | None:
        """Of the last packet of sound the timestamp, unwrapped, what brings it, in 1/90000 s, to
        its place as the line is laid now, and the arrival; None before the first."""
        track = self._audio
        if track.pts is None or track.counter.last is None:
            return None
        return track.counter.last, track.offset, track.arrival

    def sounded(self, unwrapped: int, arrival: float) -> None:
        """Sound was laid on the line elsewhere, from ``heard`` to this packet, each a little later
        than the one before."""
        track = self._audio
        track.counter.last, track.ticks = unwrapped, track.to_ticks(unwrapped)
        track.pts, track.arrival = track.ticks + track.offset, arrival

    def audio(self, rtp_timestamp: int, arrival: float) -> int:
        """The pts (90 kHz) of an Opus packet (timestamp of 48 kHz)."""
        return self._place(self._audio, self._video, rtp_timestamp, arrival)

    def sender_report(self, codec: Codec, ntp: int, rtp_timestamp: int, arrival: float) -> None:
        """Take what an RTCP SR says of one track: 64-bit NTP time and the timestamp at it."""
        if ntp == 0:  # the sender has no wall clock (RFC 3550 6.4.1)
            return
        track = self._video if codec is Codec.H264 else self._audio
        track.report = (ntp, rtp_timestamp)
        self._synchronise()

    def _place(self, track: _Track, other: _Track, rtp_timestamp: int, arrival: float) -> int:
        ticks = track.to_ticks(track.counter.unwrap(rtp_timestamp))
        if track.pts is None:
            pts = self._start
            if other.pts is not None:
                pts = other.pts + _span(other.arrival, arrival)
            track.offset = pts - ticks
        else:
            step, wall = ticks - track.ticks, _span(track.arrival, arrival)
            leap = step > MAX_JUMP and abs(step - wall) > MAX_JUMP
            if leap or step < -MAX_BACK:
                track.offset = track.pts + max(wall, 1) - ticks
                track.report = None
        track.ticks, track.arrival = ticks, arrival
        track.pts = ticks + track.offset
        return track.pts

    def _synchronise(self) -> None:
        video, audio = self._reported(self._video), self._reported(self._audio)
        if video is None or audio is None:
            return
        apart = ((video[0] - audio[0]) * VIDEO_CLOCK + (1 << 31)) >> 32
        ahead = video[1] - audio[1] - apart
        if not SYNC_TOLERANCE < abs(ahead) <= MAX_SYNC:
            return
        if ahead > 0:
            self._audio.offset += ahead
        else:
            self._video.offset -= ahead

    def _reported(self, track: _Track) -> tuple[int, int] | None:
        """NTP time and the pts at it, when the report is of the clock that runs now."""
        if track.pts is None or track.report is None:
            return None
        ntp, rtp_timestamp = track.report
        ticks = track.to_ticks(track.counter.near(rtp_timestamp))
        if abs(ticks - track.ticks) > MAX_JUMP:
            return None
        return ntp, ticks + track.offset


def _span(since: float, until: float) -> int:
    return round((until - since) * VIDEO_CLOCK)
