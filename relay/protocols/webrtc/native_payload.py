"""The native part of cutting pictures into payloads: one call a picture (``native/payload.c``).

Where it is missing, and for what it does not take, ``h264_payload.py`` does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from relay.protocols.webrtc import native_library
from relay.protocols.webrtc.payloads import Payloads


@cache
def _library() -> tuple[Any, Any] | None:
    return native_library.load("payload.h", "payload_cutter")


class NativeCutter:
    """Of one stream: it keeps what it cuts in.

    Raises:
        MemoryError.
    """

    __slots__ = ("_buffer", "_cut", "_state")

    def __init__(self, library: tuple[Any, Any]) -> None:
        ffi, lib = library
        made = lib.payload_new()
        if made == ffi.NULL:
            raise MemoryError("no memory for a native cutter")
        self._state = ffi.gc(made, lib.payload_free)
        self._cut = lib.payload_cut
        self._buffer = ffi.buffer

    @classmethod
    def where_built(cls) -> NativeCutter | None:
        """A cutter where the native part is built, else None."""
        library = _library()
        return cls(library) if library is not None else None

    def cut(self, annexb: bytes, mtu: int) -> Sequence[bytes] | None:
        """The payloads of one access unit, ``Payloads`` where there is one at least; None where
        Python is to do it."""
        state, buffer = self._state, self._buffer
        count = self._cut(state, annexb, len(annexb), mtu)
        if count <= 0:
            return None if count else ()
        return Payloads(
            buffer(state.out, state.used)[:], buffer(state.lengths, 2 * count)[:], count
        )
