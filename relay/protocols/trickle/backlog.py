"""How long bytes have waited for a slow connection. Pure: ``now`` is monotonic seconds."""

from __future__ import annotations

from collections import deque
from typing import Final

MAX_WRITES: Final = 4096
"""More than a job begins with and than half a second brings; of more, the oldest are forgotten."""


class Backlog:
    """What was written to a connection and may not have left yet.

    Args:
        max_age: seconds that a byte may wait.

    Attributes:
        total: bytes written so far.
        writes: of each write where it ends, when it came, and what it counts as where it is
            lost. A writer of many pictures does itself what ``wrote`` does.
    """

    __slots__ = ("_max_age", "total", "writes")

    def __init__(self, max_age: float) -> None:
        self._max_age = max_age
        self.total = 0
        self.writes: deque[tuple[int, float, int]] = deque(maxlen=MAX_WRITES)

    def wrote(self, octets: int, count: int, now: float) -> None:
        """
        Args:
            count: what the write counts as where it is lost.
        """
        self.total += octets
        self.writes.append((self.total, now, count))

    def look(self, waiting: int, now: float) -> float | None:
        """Forget what has left.

        Args:
            waiting: bytes of all that was written which have not left.

        Returns:
            Seconds until the oldest write is too old, 0 or less when it is; None when nothing
            waits.
        """
        left = self.total - waiting
        writes = self.writes
        while writes and writes[0][0] <= left:
            writes.popleft()
        return writes[0][1] + self._max_age - now if writes else None

    def counted(self) -> int:
        """What waits, by the counts of its writes."""
        return sum(count for _, _, count in self.writes)
