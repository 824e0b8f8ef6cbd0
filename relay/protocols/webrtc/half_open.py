"""Peers that were answered and are not connected: how many there may be. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, Generic, TypeVar

MAX_HALF_OPEN: Final = 4096
"""An answer that is never used takes about 17 kB until its time is over."""

MAX_BEGUN: Final = 2048
"""Of these, in a handshake: one that stalls takes about 75 kB more, OpenSSL's buffers, and what
it has announced (``dtls.MAX_HANDSHAKE``). So many cannot end within half of the time that they
have, and all of them take less than 270 MB."""

Who = TypeVar("Who")


class HalfOpen(Generic[Who]):
    """A line of those who have not come in yet, the oldest first.

    When it is full the oldest goes: who means to connect does so within some round trips,
    so that is hardly ever one of them, and newcomers are always served.
    """

    def __init__(
        self, end: Callable[[Who], None], limit: int = MAX_HALF_OPEN, begun: int = MAX_BEGUN
    ) -> None:
        self._end = end
        self._limit = limit
        self._begun_limit = begun
        self._line: dict[Who, None] = {}
        self._begun: dict[Who, None] = {}

    def __len__(self) -> int:
        return len(self._line)

    @property
    def begun(self) -> Collection[Who]:
        """Whose handshake has begun, the oldest first."""
        return self._begun.keys()

    def add(self, who: Who) -> None:
        """Somebody new; ends the oldest where there are too many."""
        self._line[who] = None
        self._make_room(self._line, self._limit)

    def begin(self, who: Who) -> None:
        """The handshake of one of the line begins; likewise."""
        if who in self._line:
            self._begun[who] = None
            self._make_room(self._begun, self._begun_limit)

    def _make_room(self, line: dict[Who, None], limit: int) -> None:
        while len(line) > limit:
            oldest = next(iter(line))
            self.remove(oldest)
            self._end(oldest)

    def remove(self, who: Who) -> None:
        """Connected, or gone."""
        self._line.pop(who, None)
        self._begun.pop(who, None)
