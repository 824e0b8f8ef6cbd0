"""A network in virtual time: loss, delay, jitter, reordering and duplicates from a seed.

Nothing here looks at a clock: ``Clock.run`` jumps from event to event, so that a test of
ten minutes takes as long as its packets take to handle.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random


class Clock:
    """Virtual seconds, and what is to happen when."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do it then, or as soon as possible; same times keep their order."""
        self._count += 1
        heapq.heappush(self._events, (max(when, self.now), self._count, action))

    def run(self, until: float) -> None:
        """Let everything happen that is due up to and including ``until``."""
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = until


class Link:
    """One direction of a path.

    Args:
        deliver: gets each datagram when it arrives; ``clock.now`` is then.
        delay: seconds one way.
        jitter: up to so many seconds more, without overtaking.
        loss, duplicate, reorder: probabilities of each datagram.
        reorder_by: seconds that a reordered one is late by: shortest and longest.
        drop: asked for each datagram; True loses it, whatever the probabilities.
        rate: bits a second that get through, None: any; may be changed at any time.
        queue: seconds that a datagram waits at most for that; later ones are lost.
    """

    def __init__(
        self,
        clock: Clock,
        deliver: Callable[[bytes], None],
        *,
        seed: int = 1,
        delay: float = 0.01,
        jitter: float = 0.0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        reorder_by: tuple[float, float] = (0.02, 0.05),
        drop: Callable[[bytes], bool] | None = None,
        rate: float | None = None,
        queue: float = 1.0,
    ) -> None:
        self._clock = clock
        self._deliver = deliver
        self._random = Random(seed)
        self._delay = delay
        self._jitter = jitter
        self._duplicate = duplicate
        self._reorder = reorder
        self._reorder_by = reorder_by
        self._last = 0.0
        self._queue = queue
        self._free_at = 0.0
        self.loss = loss
        self.drop = drop
        self.rate = rate
        self.sent = 0
        self.lost = 0

    def send(self, data: bytes) -> None:
        self.sent += 1
        chance = self._random.random
        if chance() < self.loss or (self.drop is not None and self.drop(data)):
            self.lost += 1
            return
        leaves = self._clock.now
        if self.rate is not None:
            leaves = max(leaves, self._free_at)
            if leaves - self._clock.now > self._queue:
                self.lost += 1
                return
            leaves += len(data) * 8 / self.rate
            self._free_at = leaves
        arrival = leaves + self._delay + self._jitter * chance()
        if chance() < self._reorder:
            arrival += self._random.uniform(*self._reorder_by)
        else:
            arrival = self._last = max(arrival, self._last)
        self._clock.at(arrival, lambda: self._deliver(data))
        if chance() < self._duplicate:
            self._clock.at(arrival + 0.001, lambda: self._deliver(data))
