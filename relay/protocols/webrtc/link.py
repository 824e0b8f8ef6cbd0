"""One viewer's link: what it carries, when it is too small for the video, when no more.

A relay cannot make a stream smaller. Where a link does not carry it, a queue grows in the
network until sound and picture are seconds late; so the video stops to the next key frame
that has a chance, and the sound goes on alone. Whether there is a chance shows a short
train of packets now and then: how far they spread on the way is the rate of the link.

Pure: ``now`` comes in.
"""

from __future__ import annotations

from math import exp, inf
from typing import Final

from relay.protocols.webrtc.congestion import (
    TICK,
    Summary,
    TransportFeedback,
    summarise,
)
from relay.protocols.webrtc.estimate import MOST, Estimator
from relay.protocols.webrtc.rtcp import TRANSPORT_FEEDBACK, TWCC_FORMAT
from relay.protocols.webrtc.sendlog import SendLog

MAX_QUEUE: Final = 0.3
"""Seconds in the network's queue that are too many, when they grow."""

MIN_SHARE: Final = 0.65
"""Of the packets of a second; with fewer that arrive, requests fill no hole in time."""

SUSTAINED: Final = 0.2
"""Seconds that one of these has to hold: a radio that stops for a moment is no small link."""

HEADROOM: Final = 1.25
"""What a link must carry, of what the stream needs, for the video to come back."""

PROBE_PACKETS: Final = 8
PROBE_INTERVAL: Final = 0.6
"""Seconds between trains; 10 kB each."""

FIRST_PROBE: Final = 0.3
"""Seconds after the video stopped: what is in the queue drains first."""

PROBE_QUEUE: Final = 0.15
"""Seconds of queue with which no train is sent."""

BLIND_WAIT: Final = 2.0
"""Seconds until the video is tried again where no train can be measured."""

MAX_WAIT: Final = 8.0

LOOK: Final = 0.19
"""Seconds between two feedbacks that are read while all is well; browsers send 10 to 20 a second,
and one that is passed over is like one that is lost."""

WELL: Final = 5.9
"""The same, while native code finds all of those that it reads between to tell that all is well;
it reads one in LOOK, too."""

TOLD_APART: Final = 30_000_000.0
"""Bits a second up to which 16 bits tell the packets of that time apart; of who is sent more, one
is read in LOOK."""

CALM_QUEUE: Final = 0.03
CALM_SHARE: Final = 0.95
"""Seconds of queue up to which, and the share of what arrives from which, all is well."""

RELAPSE: Final = 5.0
"""Seconds; who has to stop again within them waits twice as long the next time."""

_SEALS: Final = (14, 20)
"""Bytes that SRTCP adds: index and tag, of HMAC-SHA1-80 (RFC 3711) and of GCM (RFC 7714)."""
_MIN_TRAIN: Final = 5
_MAX_LOST: Final = 0.25  # of a report, where nothing else is known
_RATE_FADE: Final = 1.0  # seconds that the needed rate is taken over
_LEAST_STEP: Final = 0.2  # seconds between reports that show a rate
_WRAP: Final = 1 << 24  # of the reference time
_REFERENCE: Final = 0.064  # seconds


class Link:
    """
    Attributes:
        log: numbers and times of what was sent; None where no transport-wide feedback
            was negotiated.
        estimator: of the path, in any case.
        needed: bits a second that the viewer was sent while it was sent all.
        stopped_at: since when the video is stopped; None: it is not.
        stops: how often it was.
        known: whether anything was ever heard of what the path carries.
        look_at: until then feedback need not be read, all being well.
        well_until: until then it need not be, as long as it says itself that all is well.
    """

    def __init__(self, log: SendLog | None) -> None:
        self.log = log
        self.estimator = Estimator()
        self.needed = 0.0
        self.stopped_at: float | None = None
        self.stops = 0
        self.known = False
        self._newest: tuple[int, float, int] | None = None  # number, sent, octets until it
        self._reference: int | None = None
        self.look_at = self.well_until = -inf
        self._told_until: int | None = None  # the number behind all that was told
        self._reported: tuple[int, float] | None = None
        self._bad_since = inf
        self._wait = 1.0  # factor
        self._resumed_at = -inf
        self._next_try = inf
        self._train: tuple[int, int] | None = None  # first number, count
        self._train_times: list[float] = []
        self._carries = 0.0  # bits a second, by the last train

    @property
    def calm(self) -> bool:
        """Whether a report that tells of no loss would change nothing at once."""
        return self.stopped_at is None and self._bad_since == inf

    # -- what is heard

    def leaves(self, data: bytes, now: float) -> bool:
        """Whether this SRTCP, as it came, is feedback that need not be read now, all being well:
        its first header is in clear, and whether there is a second one its length tells. Nobody
        has vouched for it; it is lost like any other. Native code does the same."""
        if now >= self.look_at or data[1] != TRANSPORT_FEEDBACK or data[0] & 31 != TWCC_FORMAT:
            return False
        return len(data) - 4 - 4 * (data[2] << 8 | data[3]) in _SEALS

    def feedback(self, body: bytes, now: float) -> None:
        """Transport-wide feedback: see ``stop`` and ``ready`` after it.

        Raises:
            ParseError.
        """
        if self.log is None:
            return
        told = summarise(body)
        known = self.known
        self._read(told, body, self.log, now)
        whole = told.received >= CALM_SHARE * (told.last + 1)
        calm = whole and self.stopped_at is None and self.estimator.queue < CALM_QUEUE
        self.look_at = now + LOOK if calm else now
        longest = WELL if self.needed < TOLD_APART else LOOK
        self.well_until = now + longest if calm and known else now

    def _read(self, told: Summary, body: bytes, log: SendLog, now: float) -> None:
        reference = self._unwrap(told.reference)
        if self._train is not None:
            self._look_at_train(TransportFeedback.parse(body), reference * _REFERENCE)
        if told.last < 0:
            return
        number = (told.base + told.last) & 0xFFFF
        found = log.find(number)
        if found is None:
            return
        sent, octets = found
        newest = self._newest
        if newest is not None and ((number - newest[0]) & 0xFFFF) >= 0x8000:
            return  # of late packets only
        self._newest = (number, sent, octets)
        if newest is None:
            return
        self.known = True
        self._take(told, newest, reference * _REFERENCE + told.ticks * TICK, now)

    def _take(
        self, told: Summary, before: tuple[int, float, int], arrived: float, now: float
    ) -> None:
        assert self._newest is not None
        number, sent, octets = self._newest
        passed = (number - before[0]) & 0xFFFF
        if not passed:
            return
        # Feedback before it may have been lost; and what other feedback told is told again
        # as missing, where a late packet comes before it.
        start, until = told.base, self._told_until
        if until is not None and ((until - start) & 0xFFFF) < 0x8000:
            start = until
        self._told_until = (number + 1) & 0xFFFF
        covered = ((number + 1 - start + 0x8000) & 0xFFFF) - 0x8000
        if covered <= 0:
            return
        covered = min(passed, covered)
        received = min(told.received, covered)
        spent = octets - before[2]
        if self.stopped_at is None and sent > before[1]:
            step = sent - before[1]
            fresh = 1 - exp(-step / _RATE_FADE)
            self.needed += fresh * (8 * spent / step - self.needed)
        self.estimator.sample(
            sent, arrived, spent * received // covered, received, covered - received, now
        )

    def report(self, fraction_lost: float, octets: int, now: float) -> None:
        """A receiver report about the video; it counts where nothing better is known.

        Args:
            octets: of the video, sent so far.
        """
        if self.log is not None:
            return
        self.known = self.known or fraction_lost > _MAX_LOST  # less says nothing of its size
        before, self._reported = self._reported, (octets, now)
        if before is not None and self.stopped_at is None and now - before[1] > _LEAST_STEP:
            self.needed = 8 * (octets - before[0]) / (now - before[1])
        self.estimator.losses(fraction_lost, now)
        self._hold(fraction_lost > _MAX_LOST, now)

    def told(self, bitrate: int, now: float) -> None:
        """REMB; likewise."""
        if self.log is None:
            self.known = True
            self.estimator.told(bitrate)
            self._hold(0 < bitrate < MIN_SHARE * self.needed, now)

    # -- what follows

    def too_small(self, now: float) -> bool:
        """Whether the video is to stop now."""
        estimator = self.estimator
        if self.log is not None:
            share = estimator.share()
            late = estimator.queue > MAX_QUEUE and estimator.bitrate < self.needed
            self._hold(late or (share is not None and share < MIN_SHARE), now)
        return now >= self._bad_since + SUSTAINED

    def _hold(self, bad: bool, now: float) -> None:
        if not bad:
            self._bad_since = inf
        elif self._bad_since == inf:
            self._bad_since = now

    def stop(self, now: float, *, trains: bool) -> None:
        """
        Args:
            trains: whether packets can be sent again to measure with.
        """
        relapsed = now < self._resumed_at + RELAPSE
        self._wait = min(2 * self._wait, MAX_WAIT) if relapsed else 1.0
        self.stopped_at = now
        self.stops += 1
        self.estimator.resting = True
        self._bad_since = inf
        measurable = trains and self.log is not None
        wait = FIRST_PROBE if measurable else BLIND_WAIT
        self._next_try = now + min(wait * self._wait, MAX_WAIT)

    def train_due(self, now: float) -> bool:
        """Whether a train is to leave now; ``train_sent`` is to be told of it."""
        return now >= self._next_try and self.estimator.queue < PROBE_QUEUE

    def train_sent(self, first: int, count: int, now: float) -> None:
        self._train, self._train_times = (first, count), []
        self._next_try = now + PROBE_INTERVAL * self._wait

    def blind(self, now: float) -> bool:
        """Whether to try the video again without having measured anything."""
        return now >= self._next_try

    def ready(self) -> bool:
        """Whether the last train says that the link carries the stream again."""
        return self._carries >= HEADROOM * self.needed

    def resume(self, now: float) -> None:
        self.stopped_at = None
        self.estimator.resting = False
        self._resumed_at = now
        self._train, self._train_times = None, []
        self._carries = 0.0
        self._bad_since = inf

    def _look_at_train(self, told: TransportFeedback, reference: float) -> None:
        """Several feedbacks may tell of one train; the last is that of its last packet."""
        assert self._train is not None
        assert self.log is not None
        first, count = self._train
        from_first = ((told.base - first + 0x8000) & 0xFFFF) - 0x8000
        for index, arrival in enumerate(told.arrivals, from_first):
            if arrival is not None and 0 <= index < count:
                self._train_times.append(reference + arrival * TICK)
        if from_first + len(told.arrivals) < count:
            return
        times = self._train_times
        self._train, self._train_times = None, []
        begin, end = self.log.find(first), self.log.find((first + count - 1) & 0xFFFF)
        if len(times) < _MIN_TRAIN or begin is None or end is None:
            return
        each = 8 * (end[1] - begin[1]) / (count - 1)
        span = max(TICK, max(times) - min(times))
        self._carries = min(MOST, each * (len(times) - 1) / span)
        self.estimator.measured(self._carries)

    def _unwrap(self, reference: int) -> int:
        last = self._reference
        if last is not None:
            reference = last + ((reference - last + _WRAP // 2) % _WRAP) - _WRAP // 2
        self._reference = reference
        return reference
