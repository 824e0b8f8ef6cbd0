"""Where a viewer or a publisher goes, and how many processes for them there should be. Pure.

Load is the share of a core that a process takes. What its newest peers cost is in no
measurement yet, so each is counted with what one costs at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

VIEWER: Final = 0.0015
"""Share of a core that a viewer of 2 Mbit/s takes, joining included, when it was just placed."""

PUBLISHER: Final = 0.006
"""The same of a publisher of 2 Mbit/s: what receiving it takes, wherever its job is."""

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

FEW_PUBLISHERS: Final = 4
"""The same of publishers: of fewer than that there is not much to take off the gateway."""

QUIET: Final = 0.3
"""A process that has had no peer for long may go when another one has no more to do than this:
there is room then for those to come, before a process is wanted again."""


@dataclass(frozen=True, slots=True)
class Place:
    """A process that peers can be put into; the first one is always the gateway's own.

    Attributes:
        share: of a core, as last measured.
        peers: that it has, or is about to have.
        measured: how many there were at that measurement.
        each: share that one of them takes.
    """

    share: float
    peers: int
    measured: int
    each: float = VIEWER

    @property
    def expected(self) -> float:
        """The share with those that came since."""
        return self.share + self.each * max(0, self.peers - self.measured)


def choose(places: Sequence[Place]) -> int:
    """Which of them gets the next peer: the least loaded, of two alike the first."""
    return min(range(len(places)), key=lambda at: places[at].expected)


class Scale:
    """When a process is wanted, and when one is not needed any more.

    Args:
        limit: processes beside the gateway's own.
        idle: seconds that one may be without peers.
        each: share that a peer takes.
        few: connected peers, at least, before a process is started for more of them.
        kept: whether the first of them stays, whatever it has to do.
    """

    def __init__(
        self,
        limit: int,
        idle: float,
        *,
        each: float = VIEWER,
        few: int = FEW,
        kept: bool = False,
    ) -> None:
        self.limit = limit
        self.each = each
        self._idle = idle
        self._few = few
        self._kept = kept
        self._busy_since: float | None = None
        self._idle_since: float | None = None
        self._spare = 0

    def wants_another(
        self, places: Sequence[Place], connected: int, started: int, now: float
    ) -> bool:
        """To be asked several times a second.

        Args:
            connected: peers of all places that are more than an answered offer.
            started: processes that there are, those that still start or start again among them.
        """
        least = min(place.expected for place in places)
        ready = len(places) > started  # who has just been started may be all that is needed
        if least < BUSY or connected < self._few or started >= self.limit or not ready:
            self._busy_since = None
            return False
        if self._busy_since is None:
            self._busy_since = now
        return least >= FULL or now - self._busy_since >= HELD

    def can_spare(self, places: Sequence[Place], now: float) -> int | None:
        """To be asked several times a second: the process that may go, as its place; never the
        first."""
        idle = [at for at, p in enumerate(places) if at > self._kept and not p.peers]
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


def ingest_processes(setting: int | str, cores: int) -> int:
    """The same for publishers: ``auto`` has one, where there is a core for it."""
    return min(1, cores - 1) if setting == "auto" else int(setting)
