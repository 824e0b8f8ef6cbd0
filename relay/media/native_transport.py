"""The native part of MPEG-TS (``native/transport.c``): one call a picture or a
packet of sound, either way.

It does the common case, one that is whole and in order; all else is Python's (``mpegts.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from relay.media.native_library import opened
from relay.media.unit import Codec

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


class UnitWriter:
    """One stream on its way out.

    Raises:
        MemoryError.
    """

    __slots__ = ("_buffer", "_picture", "_sound", "_state")

    def __init__(self, library: tuple[Any, Any], pid: int) -> None:
        ffi, lib = library
        made = lib.ts_writer_new(pid)
        if made == ffi.NULL:
            raise MemoryError("no memory for a native writer")
        self._state = ffi.gc(made, lib.ts_writer_free)
        self._picture = lib.ts_write
        self._sound = lib.ts_write_sound
        self._buffer = ffi.buffer

    @classmethod
    def of(cls, pid: int) -> UnitWriter | None:
        """A writer where the native part is built, else None."""
        library = _library()
        return cls(library, pid) if library is not None else None

    def picture(self, payload: bytes, pts: int, random_access: bool) -> bytes:
        """Its PES in whole packets, with a PCR.

        Raises:
            MemoryError.
        """
        state = self._state
        size = self._picture(state, payload, len(payload), pts, random_access)
        if not size:
            raise MemoryError("no memory for a picture")
        data: bytes = self._buffer(state.out, size)[:]
        return data

    def sound(self, payload: bytes, pts: int) -> bytes:
        """The PES of one Opus packet in whole packets, without a PCR.

        Raises:
            MemoryError.
        """
        state = self._state
        size = self._sound(state, payload, len(payload), pts)
        if not size:
            raise MemoryError("no memory for a packet of sound")
        data: bytes = self._buffer(state.out, size)[:]
        return data


class UnitReader:
    """What reads the streams of a program on their way in.

    Attributes:
        state: what was found: ``pts``, ``keyframe``, ``counter``, and ``taken`` bytes.
        look: of a codec, for the PES that begins somewhere: of the state, the data, its size,
            where, its PID, the counter of the last packet of it (below 0 before the first), and
            the bytes of a PES at most. Gives the bytes of its one access unit, 0 where Python
            is to judge it.
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
        self.look: dict[Codec, Callable[..., int]] = {
            Codec.H264: lib.ts_read,
            Codec.OPUS: lib.ts_read_sound,
        }
        self.buffer = ffi.buffer

    @classmethod
    def where_built(cls) -> UnitReader | None:
        """A reader where the native part is built, else None."""
        library = _library()
        return cls(library) if library is not None else None
