"""How many more jobs fit, for each model. Pure.

An entry of the models file sells one model at one runner, so many jobs at once. Several
entries may share a runner, by its address; where the runner tells its own slots, they
bound what all its entries sell together.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Final

from relay.rpc.runner import Slots

SETTLING: Final = 2.0
"""Seconds after a job's beginning or end in which its runner may still count otherwise."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of what is sold: ``capacity`` jobs of ``model`` at the runner ``url``."""

    number: int
    model: str
    url: str
    capacity: int
    warm: bool = True


@dataclass(slots=True)
class _Runner:
    """What is known of one address.

    Attributes:
        slots: as it last told them; None when it tells none.
        ours: jobs of ours that run there.
        taken: when the latest of them was given to it.
        others: slots that were taken, at that time, by somebody else (or are not ready).
        ended: when jobs of ours ended there lately, oldest first.
    """

    slots: Slots | None = None
    ours: int = 0
    others: int = 0
    taken: float = 0.0
    ended: list[float] = field(default_factory=list)


class Capacity:
    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)
        self._in_use = dict.fromkeys((entry.number for entry in entries), 0)
        self._runners = {entry.url: _Runner() for entry in entries}

    def report(self, url: str, slots: Slots | None, now: float) -> None:
        """Take in what a runner told of its slots."""
        runner = self._runners[url]
        runner.slots = slots
        runner.ended = [then for then in runner.ended if now - then < SETTLING]
        taken = slots.total - slots.free if slots else 0
        # A job of ours that has just ended may still be counted there: not somebody else's.
        runner.others = max(0, taken - runner.ours - len(runner.ended))

    def candidates(self, model: str, usable: Container[str]) -> list[Entry]:
        """Entries that can take a job of ``model`` now: the warm before the cold, the
        emptiest first, then as listed.

        Args:
            usable: addresses of the runners that work.
        """
        able = [
            entry
            for entry in self.entries
            if entry.model == model and entry.url in usable and self.places(entry) > 0
        ]
        return sorted(able, key=lambda entry: (not entry.warm, -self.places(entry), entry.number))

    def free(self, model: str, usable: Container[str]) -> int:
        """Places for ``model``; places that entries share are counted once a runner."""
        by_runner: dict[str, int] = {}
        for entry in self.candidates(model, usable):
            by_runner[entry.url] = by_runner.get(entry.url, 0) + self._own(entry)
        return sum(min(places, self._shared(url, places)) for url, places in by_runner.items())

    def in_use(self, model: str) -> int:
        return sum(self._in_use[entry.number] for entry in self.entries if entry.model == model)

    def jobs_at(self, url: str) -> int:
        return self._runners[url].ours

    def crowded(self, url: str) -> bool:
        """Whether a runner's slots are taken, or not ready, for reasons that are not ours."""
        return self._runners[url].others > 0

    def forgotten(self, url: str, now: float) -> bool:
        """Whether a runner says that it runs no job, though it has some of ours: it was
        started again between two looks."""
        runner = self._runners[url]
        if runner.slots is None or not runner.ours or now - runner.taken < SETTLING:
            return False
        return runner.slots.free == runner.slots.total

    def settling(self, url: str, now: float) -> bool:
        """Whether a job of ours ended there just now, and may still be on its way out."""
        return any(now - then < SETTLING for then in self._runners[url].ended)

    def take(self, entry: Entry, now: float) -> None:
        self._in_use[entry.number] += 1
        runner = self._runners[entry.url]
        runner.ours += 1
        runner.taken = now

    def give(self, entry: Entry, now: float | None) -> None:
        """A job has ended: its place is free at once. ``now`` is None when its runner
        never had it."""
        self._in_use[entry.number] -= 1
        runner = self._runners[entry.url]
        runner.ours -= 1
        if now is not None:
            runner.ended.append(now)
            del runner.ended[:-64]

    def places(self, entry: Entry) -> int:
        """Jobs that an entry can take now, if its runner works."""
        own = self._own(entry)
        return max(0, min(own, self._shared(entry.url, own)))

    def _own(self, entry: Entry) -> int:
        return entry.capacity - self._in_use[entry.number]

    def _shared(self, url: str, unbounded: int) -> int:
        runner = self._runners[url]
        if runner.slots is None:
            return unbounded
        return runner.slots.total - runner.ours - runner.others
