"""One segment: a byte log that can be read while it is written. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

_MERGE: Final = 4096
"""Pages are merged up to this size, so that tiny writes do not cost an object each."""


class Listener(Protocol):
    """Told of each change of a segment, synchronously, by the one who changes it."""

    def appended(self, data: bytes) -> None:
        """``data`` has just been added at the end."""

    def ended(self) -> None:
        """The segment has just been closed; nothing follows."""


@dataclass(slots=True)
class Cursor:
    """How far one reader has come; owned by the reader, moved by ``Segment.read``."""

    page: int = 0
    offset: int = 0


class Segment:
    """Bytes that only grow, until the segment is closed.

    Attributes:
        sequence: its number in the channel.
        size: bytes appended so far.
        closed: nothing is appended any more.
        writers: how many are writing to it now.
        abandonments: how often the last writer vanished before the end.
    """

    __slots__ = ("_listeners", "_pages", "abandonments", "closed", "sequence", "size", "writers")

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.size = 0
        self.closed = False
        self.writers = 0
        self.abandonments = 0
        self._pages: list[bytes] = []
        self._listeners: set[Listener] = set()

    @property
    def decided(self) -> bool:
        """Whether a reader can be answered: there is a byte, or there never will be one."""
        return self.size > 0 or self.closed

    def append(self, data: bytes) -> None:
        """Add ``data`` and hand it to every listener; nothing when it is empty or closed."""
        if self.closed or not data:
            return
        pages = self._pages
        if pages and len(pages[-1]) + len(data) <= _MERGE:
            pages[-1] += data
        else:
            pages.append(data)
        self.size += len(data)
        for listener in tuple(self._listeners):
            listener.appended(data)

    def close(self) -> None:
        """End the segment; a second time does nothing."""
        if self.closed:
            return
        self.closed = True
        for listener in tuple(self._listeners):
            listener.ended()

    def listen(self, listener: Listener) -> None:
        self._listeners.add(listener)

    def unlisten(self, listener: Listener) -> None:
        self._listeners.discard(listener)

    def read(self, cursor: Cursor, limit: int) -> bytes:
        """Return up to ``limit`` bytes from ``cursor`` on and move it; empty when caught up."""
        parts: list[bytes] = []
        pages = self._pages
        while limit > 0 and cursor.page < len(pages):
            page = pages[cursor.page]
            part = page[cursor.offset : cursor.offset + limit]
            cursor.offset += len(part)
            limit -= len(part)
            if part:
                parts.append(part)
            # The last page may still grow, so the cursor stays on it.
            if cursor.offset < len(page) or cursor.page == len(pages) - 1:
                break
            cursor.page += 1
            cursor.offset = 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def skip(self, cursor: Cursor) -> None:
        """Move ``cursor`` to the end, as if all there is had been read."""
        if self._pages:
            cursor.page = len(self._pages) - 1
            cursor.offset = len(self._pages[-1])
