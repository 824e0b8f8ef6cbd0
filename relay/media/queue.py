"""The bounded queue in front of every reader; it never holds its writer up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from relay.errors import RelayError
from relay.media.unit import AccessUnit


class QueueClosed(RelayError):
    """The writer is gone and everything that was queued has been read."""

    status = 410
    default_code = "queue_closed"


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """What a queue holds and has seen.

    Attributes:
        depth: units in it.
        bytes: payload bytes in it.
        put: units offered to it so far.
        dropped: of these, units that no reader got.
        waiting: video is left out until the next key frame.
    """

    depth: int
    bytes: int
    put: int
    dropped: int
    waiting: bool


class FrameQueue:
    """Access units for one reader, bounded by number, bytes and age.

    Drop rule: when it is over a bound, its video goes up to the next key frame (all of it,
    and what comes until a key frame, when it holds none); audio stays, and goes oldest
    first when there is no video to drop. What the reader gets can be decoded throughout.

    Used on one event loop by one reader.

    Args:
        max_units: units at most.
        max_bytes: payload bytes at most; a unit larger than that never gets through.
        max_age: seconds between the arrival of the oldest and the newest unit at most.
        from_keyframe: leave video out until the first key frame.
    """

    def __init__(
        self,
        *,
        max_units: int = 300,
        max_bytes: int = 8 << 20,
        max_age: float | None = None,
        from_keyframe: bool = False,
    ) -> None:
        self._max_units = max_units
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._units: deque[AccessUnit] = deque()
        self._bytes = 0
        self._videos = 0
        self._put = 0
        self._dropped = 0
        self._waiting = from_keyframe
        self._closed = False
        self._wake: asyncio.Future[None] | None = None

    def put(self, unit: AccessUnit) -> None:
        """Add a unit, or drop by the rule. After close() it is dropped."""
        self._put += 1
        if unit.keyframe:
            self._waiting = False
        if self._closed or (self._waiting and unit.is_video):
            self._dropped += 1
            return
        self._units.append(unit)
        self._bytes += len(unit.payload)
        self._videos += unit.is_video
        while self._over():
            self._shed()
        if self._units:
            self._notify()

    def seed(self, units: Iterable[AccessUnit]) -> bool:
        """Start an empty queue with units kept from before, if all of them fit.

        Returns:
            Whether they are in; otherwise nothing has changed.
        """
        kept = list(units)
        size = sum(len(unit.payload) for unit in kept)
        if self._units or self._closed or not kept:
            return False
        if len(kept) >= self._max_units or size >= self._max_bytes:
            return False
        if self._max_age is not None and kept[-1].arrival - kept[0].arrival >= self._max_age:
            return False
        for unit in kept:
            self.put(unit)
        return True

    async def get(self) -> AccessUnit:
        """The oldest unit, as soon as there is one.

        Raises:
            QueueClosed: it was closed, and is empty.
        """
        while not self._units:
            if self._closed:
                raise QueueClosed("the stream has ended")
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        return self._pop()

    def get_nowait(self) -> AccessUnit | None:
        """The oldest unit, or None when there is none."""
        return self._pop() if self._units else None

    def close(self) -> None:
        """Take nothing more; the reader gets what is in it, then QueueClosed."""
        self._closed = True
        self._notify()

    @property
    def closed(self) -> bool:
        return self._closed

    def statistics(self) -> QueueStatistics:
        return QueueStatistics(
            len(self._units), self._bytes, self._put, self._dropped, self._waiting
        )

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _pop(self) -> AccessUnit:
        unit = self._units.popleft()
        self._bytes -= len(unit.payload)
        self._videos -= unit.is_video
        return unit

    def _over(self) -> bool:
        units = self._units
        if len(units) > self._max_units or self._bytes > self._max_bytes:
            return True
        return (
            self._max_age is not None
            and len(units) > 1
            and units[-1].arrival - units[0].arrival > self._max_age
        )

    def _shed(self) -> None:
        if not self._videos:
            self._pop()
            self._dropped += 1
            return
        # A key frame that comes first of all video begins what is to be dropped.
        seen = 0
        kept_from = None
        for index, unit in enumerate(self._units):
            if unit.keyframe and seen:
                kept_from = index
                break
            seen += unit.is_video
        limit = len(self._units) if kept_from is None else kept_from
        self._waiting = kept_from is None
        kept = deque(
            unit for index, unit in enumerate(self._units) if index >= limit or not unit.is_video
        )
        self._dropped += len(self._units) - len(kept)
        self._units = kept
        self._bytes = sum(len(unit.payload) for unit in kept)
        self._videos = sum(unit.is_video for unit in kept)
