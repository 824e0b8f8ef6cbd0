"""The native part of MPEG-TS (``native/transport.c``): one call a picture, either way.

It does the common case, a picture whole and in order; all else is Python's (``mpegts.py``).
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any, Final

from relay.media.native_library import opened

_log = logging.getLogger(__name__)

HERE = Path(__file__).parent
WITHOUT: Final = "pure Python reads and writes segments, at some four times the CPU"


@cache
def _library() -> tuple[Any, Any] | None:
    found = opened(HERE, "transport.h", "ts_reader")
    if isinstance(found, str):
        _log.warning("%s: %s", found, WITHOUT)
        return None
    return found


class PictureWriter:
    """One video stream on its way out.

    Raises:
        MemoryError.
    """

    __slots__ = ("_buffer", "_state", "_write")

    def __init__(self, library: tuple[Any, Any], pid: int) -> None:
        ffi, lib = library
        made = lib.ts_writer_new(pid)
        if made == ffi.NULL:
            raise MemoryError("no memory for a native writer")
        self._state = ffi.gc(made, lib.ts_writer_free)
        self._write = lib.ts_write
        self._buffer = ffi.buffer

    @classmethod
    def of(cls, pid: int) -> PictureWriter | None:
        """A writer where the native part is built, else None."""
        library = _library()
        return cls(library, pid) if library is not None else None

    def write(self, picture: bytes, pts: int, random_access: bool) -> bytes:
        """Its PES in whole packets.

        Raises:
            MemoryError.
        """
        state = self._state
        size = self._write(state, picture, len(picture), pts, random_access)
        if not size:
            raise MemoryError("no memory for a picture")
        data: bytes = self._buffer(state.out, size)[:]
        return data


class PictureReader:
    """One video stream on its way in.

    Attributes:
        state: what was found: ``pts``, ``keyframe``, ``counter``, and ``taken`` bytes.
        look: for the PES that begins somewhere: of the state, the data, its size, where, its
            PID, the counter of the last packet of it (below 0 before the first), and the bytes
            of a PES at most. Gives the bytes of its access unit, 0 where Python is to judge it.
        buffer: of ``state.out`` and so many bytes: the access unit.

    Raises:
        MemoryError.
    """

    __slots__ = ("buffer", "look", "state")

    def __init__(self, library: tuple[Any, Any]) -> None:
        ffi, lib = library
        made = lib.ts_reader_new()
        if made == ffi.NULL:
            raise MemoryError("no memory for a native reader")
        self.state = ffi.gc(made, lib.ts_reader_free)
        self.look = lib.ts_read
        self.buffer = ffi.buffer

    @classmethod
    def where_built(cls) -> PictureReader | None:
        """A reader where the native part is built, else None."""
        library = _library()
        return cls(library) if library is not None else None
