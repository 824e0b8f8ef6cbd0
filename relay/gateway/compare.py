"""What comes back of a stream, held against what was sent: sizes, rates and times alone.

The gateway never decodes, so nothing here is certain, and nothing here moves a job: a
pipeline may well lower the rate or show a still. It is told as a warning. Only output
that stays far behind the input is no use to any viewer; ``late_since`` tells of it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from relay.gateway.status import Caution
from relay.media.unit import VIDEO_CLOCK, AccessUnit

LATE: Final = 5.0
"""Seconds that an output picture may be older than the newest input."""
CATCHING_UP: Final = 0.5
"""Seconds by which late output comes nearer and so has another while to do so."""
WINDOW: Final = 10
"""Seconds that are looked at, whole ones."""
LOW_RATE: Final = 0.6
"""Pictures out for each one in, up to which the rate is called low."""
FEW: Final = 5
"""Pictures a second of the input from which on the comparison means something."""
SKIPPED: Final = 100
"""Bytes up to which a picture says no more than that nothing changed."""
ALIKE: Final = 4
"""Bytes by which pictures in a row differ in size when an encoder is given one and the same:
it spends what it may on refining it, and soon the same number again and again."""
RUN: Final = 10
"""Pictures in a row that seem to repeat the one before, until that is no accident, and none
of a slow worker that fills its rate up with repeats."""
STANDS: Final = 0.25
"""Share of such pictures of a still: encoders refine it anew after each key frame."""
MOVES: Final = 0.1
"""Share of such pictures up to which the input moves."""
CLOSE: Final = 64
"""Ticks of 90 kHz that a worker may round a timestamp by."""
KNOWN: Final = 2048
"""Input pictures whose times are remembered."""
TOGETHER: Final = 256 << 10
"""Bytes of units that are looked at together: half a second, mostly."""
EACH: Final = 512
"""Bytes that a unit counts beside its payload, so that there are never many."""
FAR: Final = 10 * VIDEO_CLOCK
"""Output that begins further than this from the input is on a clock of its own."""
SOUND: Final = 10
"""Packets of sound a second from which on a publisher counts as heard."""

LOW: Final = Caution(
    "output_rate_low", "far fewer pictures come back than were sent; the worker may be too slow"
)
STILL: Final = Caution(
    "output_still", "the picture that comes back does not change though the camera's does"
)
SILENT: Final = Caution("output_silent", "no sound comes back; viewers hear the publisher's own")
FOREIGN: Final = Caution(
    "output_foreign",
    "the pictures that come back do not carry the times that were sent: the worker's clock is"
    " its own, or they are another stream's",
)


class Repeats:
    """Counts the pictures that seem to show nothing new."""

    def __init__(self) -> None:
        self._content = b""
        self._size = 0
        self._run = 0

    def add(self, unit: AccessUnit) -> int:
        """How many more are known with this picture; a run counts once it is long enough."""
        payload, before = unit.payload, self._content
        self._content = payload
        if payload != before:
            if unit.keyframe:
                return 0  # the same picture makes another key frame each time
            size, last = len(payload), self._size
            self._size = size
            if size > SKIPPED and abs(size - last) > ALIKE:
                self._run = 0
                return 0
        self._run += 1
        return RUN if self._run == RUN else int(self._run > RUN)


@dataclass(slots=True)
class Flow:
    """What went one way within one second."""

    pictures: int = 0
    repeats: int = 0
    sounds: int = 0
    strange: int = 0  # pictures with the time of none that was sent
    strays: int = 0  # pictures with times that could not be shown at all


@dataclass(slots=True)
class Second:
    sent: Flow = field(default_factory=Flow)
    back: Flow = field(default_factory=Flow)


class Comparison:
    """Of one session. Times are the units' arrivals, ``time.monotonic()`` seconds.

    Units are only put down as they pass, and looked at together: that is cheaper than to look
    at each with cold caches.

    Args:
        oldest: timestamp of the first picture that the session was given, 90 kHz. Output from
            before it is on a clock of its own, and how old it is cannot be known.

    Attributes:
        passed: where units may be put too, with whether they came back; each takes its payload
            and ``EACH`` bytes of ``room``, and below 0 ``look`` is to be called.
    """

    def __init__(self, oldest: int | None = None) -> None:
        self.passed: list[tuple[AccessUnit, bool]] = []
        self.room = TOGETHER
        self._late_since: float | None = None
        self._oldest = oldest
        self._own_clock = False
        self._known: OrderedDict[int, None] = OrderedDict()
        self._nearest = 0.0
        self._newest = 0
        self._began: float | None = None
        self._number = 0
        self._turns_at = 0.0  # when the next second begins
        self._sent_repeats, self._back_repeats = Repeats(), Repeats()
        self._now = Second()
        self._past: deque[Second] = deque(maxlen=WINDOW)

    def sent(self, unit: AccessUnit) -> None:
        self.passed.append((unit, False))
        self.room -= EACH + len(unit.payload)
        if self.room < 0:
            self.look()

    def back(self, unit: AccessUnit) -> None:
        """A unit of output, with the timestamp that the worker gave it."""
        self.passed.append((unit, True))
        self.room -= EACH + len(unit.payload)
        if self.room < 0:
            self.look()

    @property
    def late_since(self) -> float | None:
        """Since when the output is too old and comes no nearer, else None."""
        self.look()
        return self._late_since

    def look(self) -> None:
        """At what has passed."""
        for unit, is_back in self.passed:
            if is_back:
                self._back(unit)
            else:
                self._sent(unit)
        self.passed.clear()
        self.room = TOGETHER

    def _sent(self, unit: AccessUnit) -> None:
        if unit.is_video:
            self._newest = unit.pts
            self._known[unit.pts // CLOSE] = None
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)
        if self._began is not None:
            if unit.arrival >= self._turns_at:
                self._turn(unit.arrival)
            flow = self._now.sent
            if unit.is_video:
                flow.pictures += 1
                flow.repeats += self._sent_repeats.add(unit)
            else:
                flow.sounds += 1

    def _back(self, unit: AccessUnit) -> None:
        if unit.is_video and self._began is None:
            self._began = unit.arrival
            self._turns_at = unit.arrival + 1
            before = self._oldest is not None and unit.pts < self._oldest - CLOSE
            self._own_clock = before or abs(self._newest - unit.pts) > FAR
        if self._began is None:
            return
        if unit.arrival >= self._turns_at:
            self._turn(unit.arrival)
        flow = self._now.back
        if not unit.is_video:
            flow.sounds += 1
            return
        flow.pictures += 1
        flow.repeats += self._back_repeats.add(unit)
        pts, known = unit.pts, self._known
        place = pts // CLOSE
        if self._own_clock or not (place in known or place - 1 in known or place + 1 in known):
            flow.strange += 1
        elif self._newest - pts > LATE * VIDEO_CLOCK:
            self._note_lag((self._newest - pts) / VIDEO_CLOCK, unit.arrival)
        else:
            self._late_since = None

    def stray(self, now: float) -> None:
        """A picture came whose time is so far off that it was not shown."""
        self.look()
        if self._began is not None:
            self._turn(now)
            self._now.back.strays += 1

    def warnings(self, now: float) -> tuple[Caution, ...]:
        self.look()
        if self._began is None:
            return ()
        self._turn(now)
        past = [*self._past]
        # Whole seconds of steady input only: a pause says nothing of the worker.
        if len(past) < WINDOW or any(second.sent.pictures < FEW for second in past):
            return ()
        rules = ((LOW, _low), (STILL, _still), (SILENT, _silent), (FOREIGN, _foreign))
        return tuple(warning for warning, holds in rules if holds(past))

    def _note_lag(self, lag: float, now: float) -> None:
        if self._late_since is None or lag < self._nearest - CATCHING_UP:
            self._late_since, self._nearest = now, lag

    def _turn(self, now: float) -> None:
        """Go on to the second that ``now`` is in; seconds without anything count too."""
        assert self._began is not None
        number = int(now - self._began)
        if number <= self._number:
            return
        for _ in range(min(number - self._number, WINDOW + 1)):
            self._past.append(self._now)
            self._now = Second()
        self._number = number
        self._turns_at = self._began + number + 1


def _low(past: list[Second]) -> bool:
    sent = sum(second.sent.pictures for second in past)
    return sum(second.back.pictures for second in past) <= sent * LOW_RATE


def _still(past: list[Second]) -> bool:
    return (
        _repeats([second.back for second in past]) >= STANDS
        and _repeats([second.sent for second in past]) <= MOVES
    )


def _repeats(flows: list[Flow]) -> float:
    """The share of pictures that repeat the one before."""
    pictures = sum(flow.pictures for flow in flows)
    return sum(flow.repeats for flow in flows) / pictures if pictures else 0.0


def _silent(past: list[Second]) -> bool:
    heard = all(second.sent.sounds >= SOUND for second in past)
    return heard and not any(second.back.sounds for second in past)


def _foreign(past: list[Second]) -> bool:
    back = [second.back for second in past]
    strange = sum(flow.strange for flow in back) * 2 > sum(flow.pictures for flow in back)
    return strange or sum(flow.strays > 0 for flow in back) * 2 > len(back)
