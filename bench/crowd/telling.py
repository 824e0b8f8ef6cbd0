"""What a viewer of a crowd tells its sender, from what the C loop counted and noted of it."""

from __future__ import annotations

from typing import Any, Final

from relay.protocols.webrtc.congestion import TransportFeedback
from relay.protocols.webrtc.rtcp import ReportBlock

READ_KEPT: Final = 1024
"""Numbers whose reading the C loop remembers, as in ``crowd.h``."""
MOST: Final = 512
"""Statuses of one feedback, as ``relay.protocols.webrtc.congestion`` bounds them."""
REFERENCE: Final = 256
"""Ticks of 250 us in a feedback's unit of reference, 64 ms."""
LONGEST: Final = 0x7FFF
"""Ticks between two arrivals that a feedback can tell."""


class Reception:
    """The reports about one SSRC (RFC 3550 section 6.4.1).

    Args:
        flow: a ``struct flow``.
    """

    def __init__(self, flow: Any) -> None:
        self._flow = flow
        self._expected = self._kept = 0

    def block(self, last_report: int, delay: float) -> ReportBlock:
        """What is true now; the share lost counts since the last one.

        Args:
            last_report: the middle of its NTP time; 0: none came.
            delay: seconds since then.
        """
        flow = self._flow
        highest, kept = -1, 0
        while highest != flow.highest:  # the C loop goes on: the two belong together
            highest = flow.highest
            kept = flow.kept
        expected = highest - flow.first + 1
        due, came = expected - self._expected, kept - self._kept
        self._expected, self._kept = expected, kept
        share = (due - came) * 256 // due if due > came else 0
        lost = max(min(expected - kept, 0x7FFFFF), -0x800000)
        ago = round(delay * 65536) if last_report else 0
        return ReportBlock(
            flow.ssrc, min(share, 255), lost, highest, flow.jitter >> 4, last_report, ago
        )


class Numbers:
    """The feedback about a viewer's transport-wide numbers.

    Args:
        read_at: of its ``struct seat``: when each number was read.
    """

    def __init__(self, read_at: memoryview) -> None:
        self._read_at = read_at
        self._last = 0
        self._count = 0

    def told(self, newest: int, sender: int, media: int) -> TransportFeedback | None:
        """Which numbers came since the last one, and when each was read; None: no newer came.

        Args:
            newest: the last number that came.
        """
        number = min(newest - self._last, MOST)
        if number <= 0 or newest == 0:
            return None
        if self._last == 0:
            number = 1  # what went before is not known
        self._last = newest
        self._count += 1
        first = newest - number + 1
        ticks = [self._read_at[at % READ_KEPT] for at in range(first, newest + 1)]
        last = ticks[-1]
        ticks = [tick if last - tick < LONGEST else 0 for tick in ticks]
        reference = next(tick for tick in ticks if tick) // REFERENCE
        since = reference * REFERENCE
        arrivals = tuple(tick - since if tick else None for tick in ticks)
        base, count = first & 0xFFFF, self._count - 1
        return TransportFeedback(sender, media, base, reference, count, arrivals)
