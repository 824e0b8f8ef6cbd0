"""Where a viewer goes, and how many egress processes there should be. Pure.

Load is the share of a core that a process takes. What its newest viewers cost is in no
measurement yet, so each is counted with what a viewer costs at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

VIEWER: Final = 0.0015
"""Share of a core that a viewer of 2 Mbit/s takes, joining included, when it was just placed."""

BUSY: Final = 0.4
"""Share from which on another process is wanted: about 650 viewers that stay. A picture then
takes 13 ms of its interval to send to all, and a key frame several times as much."""

HELD: Final = 1.0
"""Seconds that all must be so busy; a burst of joins is over by then."""

FULL: Final = 0.7
"""At this share nothing is waited for."""

FEW: Final = 16
"""Connected viewers at least, before a process is started for more of them: offers that lead
nowhere start none."""

QUIET: Final = 0.3
"""A process that has had no viewer for long may go when another one has no more to do than this:
there is room then for those to come, before a process is wanted again."""


@dataclass(frozen=True, slots=True)
class Place:
    """A process that viewers can be put into; the first one is always the gateway's own.

    Attributes:
        share: of a core, as last measured.
        viewers: that it has, or is about to have.
        measured: how many there were at that measurement.
    """

    share: float
    viewers: int
    measured: int

    @property
    def expected(self) -> float:
        """The share with those that came since."""
        return self.share + VIEWER * max(0, self.viewers - self.measured)


def choose(places: Sequence[Place]) -> int:
    """Which of them gets the next viewer: the least loaded, of two alike the first."""
    return min(range(len(places)), key=lambda at: places[at].expected)


class Scale:
    """When a process is wanted, and when one is not needed any more.

    Args:
        limit: processes beside the gateway's own.
        idle: seconds that one may be without viewers.
    """

    def __init__(self, limit: int, idle: float) -> None:
        self.limit = limit
        self._idle = idle
        self._busy_since: float | None = None
        self._idle_since: float | None = None
        self._spare = 0

    def wants_another(
        self, places: Sequence[Place], connected: int, started: int, now: float
    ) -> bool:
        """To be asked several times a second.

        Args:
            connected: viewers of all places that are more than an answered offer.
            started: processes that there are, those that still start or start again among them.
        """
        least = min(place.expected for place in places)
        ready = len(places) > started  # who has just been started may be all that is needed
        if least < BUSY or connected < FEW or started >= self.limit or not ready:
            self._busy_since = None
            return False
        if self._busy_since is None:
            self._busy_since = now
        return least >= FULL or now - self._busy_since >= HELD

    def can_spare(self, places: Sequence[Place], now: float) -> int | None:
        """To be asked several times a second: the process that may go, as its place; never the
        first."""
        idle = [at for at, place in enumerate(places) if at and not place.viewers]
        if not idle or min(p.expected for at, p in enumerate(places) if at != idle[-1]) > QUIET:
            self._idle_since = None
            return None
        if self._idle_since is None or idle[-1] != self._spare:
            self._idle_since, self._spare = now, idle[-1]
        if now - self._idle_since < self._idle:
            return None
        self._idle_since = None
        return idle[-1]


def processes(setting: int | str, cores: int) -> int:
    """How many there may be beside the gateway's own: ``auto`` leaves that one a core."""
    return max(1, cores - 1) if setting == "auto" else int(setting)
