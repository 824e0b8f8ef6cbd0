"""Encoded frames on their way from the loop's thread to the media thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from relay.errors import RateLimited
from relay.media.unit import AccessUnit

MAX_COMMANDS: Final = 64


@dataclass(frozen=True, slots=True)
class RingStatistics:
    depth: int
    size: int
    dropped: int


class Ring:
    """Bounded. When it is full, everything up to the next key frame is dropped.

    It also carries commands: functions that the media thread runs before the frames.

    Args:
        max_units: access units kept; more means that not even decoding keeps up.
        max_bytes: their bytes.

    Attributes:
        waited: the reader had nothing to do before its last ``take``.
    """

    def __init__(self, *, max_units: int = 90, max_bytes: int = 8 << 20) -> None:
        self._max_units = max_units
        self._max_bytes = max_bytes
        self._units: deque[AccessUnit] = deque()
        self._commands: deque[Callable[[], None]] = deque()
        self._ready = threading.Condition()
        self._bytes = 0
        self._dropped = 0
        self._broken = False
        self._closed = False
        self.waited = False

    def put(self, unit: AccessUnit) -> None:
        """Never blocks."""
        with self._ready:
            if self._closed or (self._broken and not unit.keyframe):
                self._dropped += 1
                return
            self._broken = False
            full = len(self._units) >= self._max_units
            if full or self._bytes + len(unit.payload) > self._max_bytes:
                self._dropped += len(self._units)
                self._forget()
                if not unit.keyframe:
                    self._dropped += 1
                    self._broken = True
                    return
            self._units.append(unit)
            self._bytes += len(unit.payload)
            self._ready.notify()

    def call(self, command: Callable[[], None]) -> None:
        """
        Raises:
            RateLimited: too many are waiting.
        """
        with self._ready:
            if len(self._commands) >= MAX_COMMANDS:
                raise RateLimited("the media thread has too much waiting for it")
            self._commands.append(command)
            self._ready.notify()

    def take(self) -> tuple[list[Callable[[], None]], list[AccessUnit]] | None:
        """Block until there is something; None when closed."""
        with self._ready:
            self.waited = False
            while not self._commands and not self._units:
                if self._closed:
                    return None
                self._ready.wait()
                self.waited = True
            commands, units = list(self._commands), list(self._units)
            self._commands.clear()
            self._forget()
            return commands, units

    def clear(self) -> None:
        """Forget the frames: the job they were for is over."""
        with self._ready:
            self._forget()
            self._broken = False

    def close(self) -> None:
        """Commands that are waiting still run."""
        with self._ready:
            self._closed = True
            self._forget()
            self._ready.notify()

    def statistics(self) -> RingStatistics:
        with self._ready:
            return RingStatistics(len(self._units), self._bytes, self._dropped)

    def _forget(self) -> None:
        self._units.clear()
        self._bytes = 0
