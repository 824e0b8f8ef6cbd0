"""Which packets of a stream are missing, and when each is asked for again (RFC 4585)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

FIRST_INTERVAL: Final = 0.03
"""Seconds between two requests for a packet while the round trip is not known."""

MAX_TRIES: Final = 10

HOLES_AT_ONCE: Final = 2000
HOLES_A_SECOND: Final = 2000.0
"""Missing packets that are noted; more than twice as many as may be asked for. A stream with
more of them waits for a key frame, and numbers that lie cost no more than others."""

CROWDED: Final = 100
CROWDED_PACE: Final = 0.005
"""With so many holes, seconds between two looks at them: each look is at all."""

LATE: Final = 0.05
"""Seconds by which its owner is woken so late that it must have stood still."""

_SHORTEST: Final = 0.02
_LONGEST: Final = 0.1
_BURST: Final = 500.0  # requests at once
_RATE: Final = 1000.0  # requests a second


@dataclass(slots=True)
class _Hole:
    since: float
    due: float
    asked_at: float = 0.0
    tries: int = 0
    doubted: bool = False
    spared: bool = False


class Repair:
    """The holes of one stream, by extended sequence number, oldest first.

    Attributes:
        wake_at: when ``due`` has something to say, or ``doubtful`` or ``expired`` may
            turn true.
        requests: how often a packet was asked for.
        round_trip: seconds from request to retransmission, smoothed; None before the first.
    """

    __slots__ = (
        "_doubt",
        "_filled_at",
        "_give_up",
        "_holes",
        "_nack",
        "_noted_at",
        "_room",
        "_tokens",
        "requests",
        "round_trip",
        "wake_at",
    )

    def __init__(self, *, nack: bool, doubt: float, give_up: float) -> None:
        """
        Args:
            nack: whether the sender answers requests; without, holes are only timed.
            doubt: seconds after which a hole will hardly be filled.
            give_up: seconds after which a hole is not waited for any more.
        """
        self._doubt = doubt
        self._nack = nack
        self._give_up = give_up
        self._holes: dict[int, _Hole] = {}
        self._tokens = _BURST
        self._filled_at = 0.0
        self._room = float(HOLES_AT_ONCE)
        self._noted_at = 0.0
        self.wake_at = inf
        self.requests = 0
        self.round_trip: float | None = None

    def __len__(self) -> int:
        return len(self._holes)

    def __contains__(self, extended: int) -> bool:
        return extended in self._holes

    def has_room(self, count: int, now: float) -> bool:
        """Whether so many more may be missed."""
        room = self._room + (now - self._noted_at) * HOLES_A_SECOND
        self._room, self._noted_at = min(float(HOLES_AT_ONCE), room), now
        return count <= self._room

    def missed(self, first: int, end: int, now: float) -> None:
        """The packets from ``first`` up to before ``end`` have not come."""
        self._room -= end - first
        due = now if self._nack else inf
        for extended in range(first, end):
            self._holes[extended] = _Hole(now, due)
        if len(self._holes) > CROWDED:
            due = max(due, self._filled_at + CROWDED_PACE)
        self.wake_at = min(self.wake_at, due, now + self._doubt)

    def filled(self, extended: int, now: float, *, retransmitted: bool) -> None:
        hole = self._holes.pop(extended, None)
        if hole is not None and retransmitted and hole.tries == 1:
            sample = now - hole.asked_at
            before = self.round_trip
            self.round_trip = sample if before is None else before + (sample - before) / 8
        if not self._holes:
            self.wake_at = inf

    def forget(self, end: int) -> None:
        """What is missing before ``end`` does not matter any more."""
        holes = self._holes
        while holes and (oldest := next(iter(holes))) < end:
            del holes[oldest]
        if not holes:
            self.wake_at = inf

    def woken(self, now: float) -> None:
        """Whoever stood still has not waited meanwhile: what was asked for may have come, and is
        not read yet. Each hole is given that time once."""
        late = now - self.wake_at
        if late > LATE:
            for hole in self._holes.values():
                if not hole.spared:
                    hole.since += late
                    hole.spared = True

    def expired(self, now: float) -> bool:
        """Whether the oldest hole has been waited for long enough."""
        oldest = next(iter(self._holes.values()), None)
        return oldest is not None and now >= oldest.since + self._give_up

    def doubtful(self, now: float) -> bool:
        """Whether the oldest hole will hardly be filled; true once for each."""
        oldest = next(iter(self._holes.values()), None)
        if oldest is None or oldest.doubted or now < oldest.since + self._doubt:
            return False
        oldest.doubted = True
        return True

    def due(self, now: float) -> list[int]:
        """The packets to ask for now; each again after about a round trip."""
        self._tokens = min(_BURST, self._tokens + (now - self._filled_at) * _RATE)
        self._filled_at = now
        interval = self._interval()
        wanted = []
        wake_at = inf
        for extended, hole in self._holes.items():
            if hole.due <= now:
                if self._tokens < 1:
                    wake_at = min(wake_at, now + _SHORTEST)
                    break
                self._tokens -= 1
                hole.tries += 1
                hole.asked_at = now
                hole.due = now + interval if hole.tries < MAX_TRIES else inf
                wanted.append(extended)
            wake_at = min(wake_at, hole.due)
        oldest = next(iter(self._holes.values()), None)
        if oldest is not None:
            patience = self._give_up if oldest.doubted else self._doubt
            wake_at = min(wake_at, oldest.since + patience)
        if len(self._holes) > CROWDED:
            wake_at = max(wake_at, now + CROWDED_PACE)
        self.wake_at = wake_at
        self.requests += len(wanted)
        return wanted

    def _interval(self) -> float:
        if self.round_trip is None:
            return FIRST_INTERVAL
        return max(_SHORTEST, min(_LONGEST, 1.25 * self.round_trip + 0.005))
