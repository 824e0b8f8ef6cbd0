"""How much a path carries, from what arrives over it when (after draft-ietf-rmcat-gcc-02).

Two bounds, of which the lower one counts. The delay's: when the time that packets take
grows steadily, they wait in a queue, and the path carries what arrives, a little less to
let the queue drain. The losses': many of them lower it, few let it rise.

Pure, and of constant cost a sample: one sample is all that arrived since the last one.
"""

from __future__ import annotations

from collections import deque
from math import exp, inf
from typing import Final

START: Final = 1_000_000.0
LEAST: Final = 50_000.0
MOST: Final = 100_000_000.0
"""Bits a second."""

RATE_WINDOW: Final = 0.5
"""Seconds that the rate of arrival is taken over."""

SHARE_WINDOW: Final = 1.0
"""Seconds that the share of what arrives is taken over."""

BASE_WINDOW: Final = 10.0
"""Seconds in which the quickest packet shows what the path takes with an empty queue; the
window before it counts too."""

_FADE: Final = 0.25  # seconds in which a sample's weight in the trend falls to 1/e
_GAIN: Final = 240.0  # milliseconds: the trend as the draft's threshold is made for
_THRESHOLD: Final = (6.0, 12.5, 600.0)  # least, first, most
_THRESHOLD_UP: Final = 0.0087  # a millisecond of trend above it and of time
_THRESHOLD_DOWN: Final = 0.039
_OUTLIER: Final = 15.0  # so far above it a trend does not raise the threshold
_BACK_OFF: Final = 0.85
_SHORT_QUEUE: Final = 0.05  # seconds: what arrives is carried
_GROW: Final = 1.08  # a second
_BETWEEN_DECREASES: Final = 0.2  # seconds
_MANY_LOST: Final = 0.10
_FEW_LOST: Final = 0.02
_BETWEEN_LOSSES: Final = 0.5  # seconds between two looks at the losses
_MOST_SAMPLES: Final = 128  # of a window; a viewer that tells more often has shorter ones
_ENOUGH: Final = 20  # packets of which a share says something


class Estimator:
    """One path.

    Attributes:
        queue: seconds that the last sample waited, beyond what the path takes at best.
        growth: seconds by which the queue grows each second.
        overused: the queue grows and has done so for more than one sample.
        arriving: bits a second that arrive; 0 before two samples.
        resting: set it while so little is sent that samples say nothing of the path but
            its queue; the estimate changes by ``measured`` only.
    """

    __slots__ = (
        "_arrivals",
        "_base",
        "_base_before",
        "_base_until",
        "_decreased_at",
        "_delay_bound",
        "_first",
        "_last_growth",
        "_last_sample",
        "_loss_bound",
        "_losses_at",
        "_over",
        "_shares",
        "_sums",
        "_threshold",
        "arriving",
        "growth",
        "overused",
        "queue",
        "resting",
    )

    def __init__(self, start: float = START) -> None:
        self.queue = 0.0
        self.growth = 0.0
        self.overused = False
        self.arriving = 0.0
        self.resting = False
        self._delay_bound = start
        self._loss_bound = MOST
        self._threshold = _THRESHOLD[1]
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._first: float | None = None
        self._last_sample: tuple[float, float] = (0.0, 0.0)  # arrived, known here
        self._last_growth = 0.0
        self._over = 0
        self._base = self._base_before = inf
        self._base_until = -inf
        self._arrivals: deque[tuple[float, int]] = deque(maxlen=_MOST_SAMPLES)
        self._shares: deque[tuple[float, int, int]] = deque(maxlen=_MOST_SAMPLES)
        self._decreased_at = -inf
        self._losses_at = -inf

    @property
    def bitrate(self) -> float:
        """The estimate, bits a second."""
        return max(LEAST, min(self._delay_bound, self._loss_bound))

    def share(self) -> float | None:
        """Which part of the packets of the last second arrived; None of too few."""
        received = sum(sample[1] for sample in self._shares)
        lost = sum(sample[2] for sample in self._shares)
        return received / (received + lost) if received + lost >= _ENOUGH else None

    def sample(
        self, sent: float, arrived: float, octets: int, received: int, lost: int, now: float
    ) -> None:
        """What arrived since the last sample.

        Args:
            sent, arrived: of the newest of those packets, in seconds; two clocks, whose
                difference does not matter.
            octets: of those packets.
            received, lost: how many came, and how many that were sent among them did not.
        """
        if self._first is None:
            self._first = arrived - sent
            self._last_sample = (arrived, now)
        last, known = self._last_sample
        if arrived < last:
            return
        self._last_sample = (arrived, now)
        delay = arrived - sent - self._first
        self._note_queue(delay, now)
        self._note_rate(arrived, octets)
        self._shares.append((now, received, lost))
        while self._shares[0][0] < now - SHARE_WINDOW:
            self._shares.popleft()
        self._note_trend(delay, arrived - last)
        if self.resting:
            return
        self._adapt(now, now - known)
        if now >= self._losses_at + _BETWEEN_LOSSES:
            share = self.share()
            if share is not None:
                self.losses(1 - share, now)

    def losses(self, share: float, now: float) -> None:
        """That share (0 to 1) of the packets was lost lately; a report may say so too."""
        self._losses_at = now
        if share > _MANY_LOST:
            if self.arriving and self.arriving < (1 - share) * self.bitrate / 2:
                return  # so little was sent that its losses are not the sender's doing
            self._loss_bound = max(LEAST, self.arriving, self.bitrate * (1 - share / 2))
        elif share < _FEW_LOST:
            self._loss_bound = min(MOST, self._loss_bound * 1.05)

    def told(self, bitrate: float) -> None:
        """The other end says what arrives there at most (REMB)."""
        self._delay_bound = max(LEAST, min(MOST, bitrate))

    def measured(self, bitrate: float) -> None:
        """A train of packets came through at that rate."""
        self._delay_bound = max(LEAST, min(MOST, bitrate))
        self._loss_bound = max(self._loss_bound, self._delay_bound)

    # -- the parts

    def _note_queue(self, delay: float, now: float) -> None:
        if now >= self._base_until:
            self._base_before = self._base
            self._base = delay
            self._base_until = now + BASE_WINDOW
        self._base = min(self._base, delay)
        self.queue = delay - min(self._base, self._base_before)

    def _note_rate(self, arrived: float, octets: int) -> None:
        arrivals = self._arrivals
        arrivals.append((arrived, octets))
        while len(arrivals) > 2 and arrivals[1][0] <= arrived - RATE_WINDOW:
            arrivals.popleft()
        span = arrived - arrivals[0][0]
        if span > 0:
            # What came with the first sample came before the span.
            self.arriving = 8 * (sum(o for _, o in arrivals) - arrivals[0][1]) / span

    def _note_trend(self, delay: float, step: float) -> None:
        """The slope of the delay: least squares, of weights that fall with age.

        The newest sample is where time is counted from, so that the sums stay small.
        """
        count, x, y, xx, xy = self._sums
        keep = exp(-step / _FADE)
        xx = keep * (xx - 2 * step * x + step * step * count)
        xy = keep * (xy - step * y)
        x = keep * (x - step * count)
        count = keep * count + 1
        y = keep * y + delay
        self._sums = (count, x, y, xx, xy)
        spread = count * xx - x * x
        self._last_growth = self.growth
        self.growth = (count * xy - x * y) / spread if spread > 1e-9 else 0.0

    def _adapt(self, now: float, step: float) -> None:
        trend = self.growth * _GAIN
        threshold = self._threshold
        if trend > threshold and self.growth >= self._last_growth:
            self._over += 1
        elif trend <= threshold:
            self._over = 0
        self.overused = self._over > 1
        away = abs(trend) - threshold
        if away <= _OUTLIER:
            pace = _THRESHOLD_UP if away > 0 else _THRESHOLD_DOWN
            threshold += pace * away * min(step * 1000, 100.0)
            self._threshold = max(_THRESHOLD[0], min(_THRESHOLD[2], threshold))
        if self.overused:
            if now >= self._decreased_at + _BETWEEN_DECREASES and self.arriving:
                self._decreased_at = now
                self._delay_bound = max(LEAST, min(self._delay_bound, _BACK_OFF * self.arriving))
        elif trend >= -self._threshold:
            # While the queue drains nothing is raised; nor far beyond what was ever tried.
            if self._delay_bound < 1.5 * self.arriving + 10_000:
                self._delay_bound = min(MOST, self._delay_bound * _GROW ** min(step, 1.0))
            if self.queue < _SHORT_QUEUE and not self._over:
                carried = min(MOST, self.arriving)
                self._delay_bound = max(self._delay_bound, carried)
                self._loss_bound = max(self._loss_bound, carried)
