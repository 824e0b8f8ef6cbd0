"""When each packet of a connection left, by its transport-wide sequence number.

All tracks of one viewer share it: the numbers count what goes over the path, whatever it
is. It is read only when feedback comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

REMEMBERED: Final = 1024
"""Packets that feedback can still be about: seconds of a stream, a power of two."""

OVERHEAD: Final = 62
"""Bytes of a packet beside its payload: headers of IP, UDP and RTP, the extension and the tag."""


class SendLog:
    """
    Attributes:
        identifier: of the header extension, 1 to 14.
    """

    __slots__ = ("_clock", "_entries", "_next", "_octets", "identifier")

    def __init__(self, identifier: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.identifier = identifier
        self._clock = clock
        self._next = 0
        self._octets = 0
        self._entries: list[tuple[float, int]] = []

    @property
    def next(self) -> int:
        """The number of the next packet, 16 bits."""
        return self._next & 0xFFFF

    def take(self, payload: int) -> int:
        """A packet leaves now, with a payload of that many bytes: its number."""
        number = self._next
        self._next += 1
        self._octets += payload + OVERHEAD
        entry = (self._clock(), self._octets)
        if number < REMEMBERED:
            self._entries.append(entry)
        else:
            self._entries[number % REMEMBERED] = entry
        return number & 0xFFFF

    def find(self, number: int) -> tuple[float, int] | None:
        """When the packet left, in monotonic seconds, and the bytes that had left with it;
        None when it is too old or was never sent."""
        back = (self._next - 1 - number) & 0xFFFF
        if back >= min(self._next, REMEMBERED):
            return None
        return self._entries[(self._next - 1 - back) % REMEMBERED]
