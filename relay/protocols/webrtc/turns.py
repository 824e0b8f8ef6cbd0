"""The work of joins and leaves, a little in each turn of the loop: pictures leave in between.

An offer and a handshake cost milliseconds each, a goodbye half of one. When many come at
once, they would stand in one turn of the loop, and every picture behind them all.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from relay.errors import Unavailable
from relay.protocols.webrtc.budget import Budget
from relay.protocols.webrtc.path import ignore

SLICE: Final = 0.001
"""Seconds of a turn in which more of such work is begun."""

MAX_WAITING: Final = 256
"""Offers that may wait; at two milliseconds each the last of them is answered in half a second."""

MAX_DATAGRAMS: Final = 16
"""Of one peer, not looked at yet. A flight is five; what is lost is sent again."""

RECORDS_RATE: Final = 20.0
RECORDS_BURST: Final = 200.0
"""Datagrams of DTLS a second, and at once, that are looked at of one peer: a handshake, its flights
sent over and over, takes some fifty, and after it there is a goodbye."""


class Turns:
    """Who has work, in the order in which it came. One of them, at least, is served a turn.

    Attributes:
        dropped: datagrams of DTLS that nobody looked at: more than a peer may send.

    Args:
        call_soon: the loop's: calls in its next turn.
        clock: seconds.
    """

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._call_soon = call_soon
        self._clock = clock
        self._work: deque[Callable[[], bool]] = deque()
        self._waiting = 0
        self._busy = False
        self.dropped = 0

    def put(self, work: Callable[[], bool]) -> None:
        """Do it in this turn, where nothing else of the kind was done in it, or in a later one.

        Args:
            work: a short piece; true where the rest of the turn is to be left free.
        """
        if self._busy:
            self._work.append(work)
            return
        self._busy = True
        self._call_soon(self._turn)
        work()

    def _turn(self) -> None:
        if not self._work:
            self._busy = False
            return
        # Before the work, which may raise: the rest must be done all the same.
        self._call_soon(self._turn)
        until = self._clock() + SLICE
        while self._work:
            full = self._work.popleft()()
            if full or self._clock() >= until:
                return

    async def turn(self) -> None:
        """Wait until it is the caller's turn to work for some milliseconds.

        Raises:
            Unavailable: ``busy``, too many wait.
        """
        if not self._busy:
            self._busy = True
            self._call_soon(self._turn)
            return
        if self._waiting >= MAX_WAITING:
            raise Unavailable("too many offers at once", code="busy", retry_after=1)
        called = asyncio.get_running_loop().create_future()

        def call() -> bool:
            if called.done():
                return False
            called.set_result(None)
            return True  # the caller goes on in the next turn, and takes its time there

        self._waiting += 1
        self._work.append(call)
        try:
            await called
        finally:
            self._waiting -= 1


class Line:
    """The DTLS datagrams of one peer, looked at one by one."""

    def __init__(self, turns: Turns, handle: Callable[[bytes], None], now: float) -> None:
        self._turns = turns
        self._budget = Budget(now, RECORDS_RATE, RECORDS_BURST)
        self._handle: Callable[[bytes], None] = handle
        self._datagrams: deque[bytes] = deque()

    def put(self, datagram: bytes, now: float) -> bool:
        """Whether there is room for it, and it is to be looked at."""
        if len(self._datagrams) >= MAX_DATAGRAMS or not self._budget.take(now):
            self._turns.dropped += 1
            return False
        self._datagrams.append(datagram)
        if len(self._datagrams) == 1:
            self._turns.put(self._next)
        return True

    def close(self) -> None:
        """Look at none of them any more."""
        self._datagrams.clear()
        self._handle = ignore

    def _next(self) -> bool:
        if self._datagrams:
            datagram = self._datagrams.popleft()
            if self._datagrams:
                self._turns.put(self._next)
            self._handle(datagram)
        return False
