"""What a receiver counts of one RTP stream, for its reports (RFC 3550 6.4 and appendix A)."""

from __future__ import annotations

from typing import Final

from relay.protocols.webrtc.budget import Budget
from relay.protocols.webrtc.rtcp import ReportBlock

MAX_DROPOUT: Final = 3000
"""Packets that may be missing in front of one until its place in the stream is doubted."""

MAX_MISORDER: Final = 1000
"""Packets by which one may be late until its place in the stream is doubted."""

RESTART_STEP: Final = 1 << 17
"""A stream that starts again goes on at least this far ahead, so that nobody takes what
is between for lost packets."""

UNITS: Final = 500.0
"""Pictures, or packets of sound, of one stream that are passed on a second, and at once: what is
done with each costs more than the packets that it comes in."""

_MAX_TRANSIT_STEP: Final = 5.0  # seconds; a longer step is a jump of the sender's clock


class Reception:
    """Places each packet on an unwrapped line, and counts.

    Attributes:
        highest: extended highest sequence number (RFC 3550 A.1).
        received: packets counted, duplicates among them.
        jitter: in ticks of the RTP clock (A.8), counted once a timestamp.
    """

    __slots__ = (
        "_base",
        "_clock_rate",
        "_doubted",
        "_last_arrival",
        "_last_timestamp",
        "_prior_expected",
        "_prior_received",
        "_report_at",
        "_report_ntp",
        "highest",
        "jitter",
        "received",
        "restarts",
    )

    def __init__(self, clock_rate: int, sequence: int, timestamp: int, now: float) -> None:
        """Begin with the first packet, which is not counted yet."""
        self._clock_rate = clock_rate
        self._base = sequence
        self._doubted = -1
        self._last_arrival = now
        self._last_timestamp = timestamp
        self._prior_expected = 0
        self._prior_received = 0
        self._report_at = 0.0
        self._report_ntp = 0
        self.highest = sequence - 1
        self.received = 0
        self.jitter = 0.0
        self.restarts = 0

    @property
    def expected(self) -> int:
        return self.highest - self._base + 1

    @property
    def lost(self) -> int:
        """Cumulative; below zero when duplicates came."""
        return self.expected - self.received

    def place(self, sequence: int) -> int:
        """The extended sequence number nearest to the highest one; nothing is counted."""
        return self.highest + ((sequence - self.highest + 0x8000) & 0xFFFF) - 0x8000

    def arrived(self, sequence: int, timestamp: int, now: float) -> int | None:
        """Count one packet.

        Returns:
            Its extended sequence number, or None for one so far off that only a second
            one at the same place will be believed: then the stream has started again.
        """
        if (sequence - self.highest) & 0xFFFF == 1:
            extended = self.highest = self.highest + 1
        else:
            extended = self.place(sequence)
            ahead = extended - self.highest
            if not -MAX_MISORDER < ahead < MAX_DROPOUT:
                if sequence != self._doubted:
                    self._doubted = (sequence + 1) & 0xFFFF
                    return None
                extended = self._restart(sequence)
            elif ahead > 0:
                self.highest = extended
        self.received += 1
        if timestamp != self._last_timestamp:
            self._measure(timestamp, now)
        return extended

    @property
    def measured(self) -> tuple[int, float]:
        """The last timestamp, and when the first packet of it came."""
        return self._last_timestamp, self._last_arrival

    def continued(self, packets: int, jitter: float, measured: tuple[int, float]) -> None:
        """Count packets that came in order behind the highest one, measured elsewhere."""
        self.highest += packets
        self.received += packets
        self.jitter = jitter
        self._last_timestamp, self._last_arrival = measured

    def _restart(self, sequence: int) -> int:
        self._doubted = -1
        self.restarts += 1
        cycles = (self.highest + RESTART_STEP) >> 16
        extended = (cycles + 2 << 16) + sequence
        self._base += extended - 1 - self.highest
        self.highest = extended
        return extended

    def _measure(self, timestamp: int, now: float) -> None:
        ticks = ((timestamp - self._last_timestamp + 0x80000000) & 0xFFFFFFFF) - 0x80000000
        step = abs((now - self._last_arrival) * self._clock_rate - ticks)
        if step < _MAX_TRANSIT_STEP * self._clock_rate:
            self.jitter += (step - self.jitter) / 16
        self._last_timestamp = timestamp
        self._last_arrival = now

    @property
    def reporting(self) -> tuple[int, int, tuple[int, float]]:
        """What reports go on from, while nothing is lost: packets lost, the highest sequence number
        that was told last, the sender's last report."""
        highest = self._base + self._prior_expected - 1
        return self.lost, highest, (self._report_ntp, self._report_at)

    def reported(self, highest: int) -> None:
        """Reports that told of no loss went on elsewhere, up to that one, of 32 bits."""
        told = (highest - (self._base + self._prior_expected - 1)) & 0xFFFFFFFF
        self._prior_expected += told
        self._prior_received += told

    def sender_report(self, ntp: int, now: float) -> None:
        """Remember the sender's last report, of which ours tells the age."""
        self._report_ntp = ntp >> 16 & 0xFFFFFFFF
        self._report_at = now

    def report(self, ssrc: int, now: float) -> ReportBlock:
        """What to tell the sender; the fraction lost is since the last call (A.3)."""
        expected, received = self.highest - self._base + 1, self.received
        interval = expected - self._prior_expected
        lost = interval - (received - self._prior_received)
        self._prior_expected, self._prior_received = expected, received
        fraction = min(255, (lost << 8) // interval) if interval > 0 and lost > 0 else 0
        delay = round((now - self._report_at) * 65536) if self._report_ntp else 0
        return ReportBlock(
            ssrc,
            fraction,
            expected - received,
            self.highest & 0xFFFFFFFF,
            int(self.jitter),
            self._report_ntp,
            max(0, delay),
        )


class Received:
    """A received stream as RTCP tells of it: what video and audio have in common.

    Attributes:
        ssrc: of the stream received now, None before the first packet.
        pace: of the units that are passed on.
    """

    def __init__(self, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self._reception: Reception | None = None
        self.pace = Budget(0.0, UNITS, UNITS)
        self.ssrc: int | None = None

    def admits(self, now: float) -> bool:
        """Whether one more unit is passed on."""
        return self.pace.take(now)

    def sender_report(self, ssrc: int, ntp: int, now: float) -> bool:
        """Note an RTCP sender report; whether it is one of this stream."""
        if self._reception is None or ssrc != self.ssrc:
            return False
        self._reception.sender_report(ntp, now)
        return True

    def report(self, now: float) -> ReportBlock | None:
        """The block for the next receiver report, None before the first packet."""
        if self._reception is None or self.ssrc is None:
            return None
        return self._reception.report(self.ssrc, now)

    @property
    def reporting(self) -> tuple[int, int, tuple[int, float]] | None:
        """See ``Reception.reporting``; None before the first packet."""
        return None if self._reception is None else self._reception.reporting

    def reported(self, highest: int) -> None:
        """See ``Reception.reported``."""
        if self._reception is not None:
            self._reception.reported(highest)

    @property
    def measured(self) -> tuple[float, tuple[int, float]]:
        """What is counted elsewhere goes on from there: jitter in ticks, and since when."""
        reception = self._reception
        return (0.0, (0, 0.0)) if reception is None else (reception.jitter, reception.measured)

    @property
    def lost(self) -> int:
        """Packets lost on the way, whether or not they were recovered."""
        return max(0, self._reception.lost) if self._reception is not None else 0

    @property
    def jitter(self) -> float:
        """Interarrival jitter in seconds."""
        return self._reception.jitter / self._clock_rate if self._reception is not None else 0.0
