"""Peers that were answered and are not connected: how many there may be. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

MAX_HALF_OPEN: Final = 4096
"""An answer that is never used takes about 20 kB until its time is over, a handshake that
stalls about 100 kB."""

Who = TypeVar("Who")


class HalfOpen(Generic[Who]):
    """A line of those who have not come in yet, the oldest first.

    When it is full the oldest goes: who means to connect does so within some round trips,
    so that is hardly ever one of them, and newcomers are always served.
    """

    def __init__(self, end: Callable[[Who], None], limit: int = MAX_HALF_OPEN) -> None:
        self._end = end
        self._limit = limit
        self._line: dict[Who, None] = {}

    def __len__(self) -> int:
        return len(self._line)

    def add(self, who: Who) -> None:
        """Somebody new; ends the oldest where there are too many."""
        self._line[who] = None
        while len(self._line) > self._limit:
            oldest = next(iter(self._line))
            del self._line[oldest]
            self._end(oldest)

    def remove(self, who: Who) -> None:
        """Connected, or gone."""
        self._line.pop(who, None)
