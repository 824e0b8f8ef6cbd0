"""Where a stream's work went and why it had to, for those who look once all is well again."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final

from relay.gateway.status import Move
from relay.market.offer import Offer

KEPT: Final = 5


class Moves:
    """
    Attributes:
        count: of all; the last ``KEPT`` are told.
    """

    def __init__(self) -> None:
        self.count = 0
        self._last = deque[Move](maxlen=KEPT)
        self._seen: float | None = None

    @property
    def last(self) -> tuple[Move, ...]:
        """The newest last."""
        return tuple(self._last)

    def leave(self, offer: Offer, code: str, words: str, at: float, seen: float | None) -> None:
        """The job at whose offer this is failed.

        Args:
            at: seconds since the epoch.
            seen: when viewers got their last picture (monotonic); None: there was none.
        """
        self.count += 1
        self._seen = seen
        self._last.append(Move(at, code, words, offer.transcoder))

    def arrive(self, offer: Offer) -> None:
        """It has taken the work up; also the first of all, which is no move."""
        if self._last and self._last[-1].taken_by is None:
            self._last.append(replace(self._last.pop(), taken_by=offer.transcoder))

    def shown(self, now: float) -> None:
        """Viewers get pictures of it."""
        if self._last and self._seen is not None:
            self._last.append(replace(self._last.pop(), dark=now - self._seen))
        self._seen = None
