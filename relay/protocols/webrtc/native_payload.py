"""The native part of cutting pictures into payloads: one call a picture (``native/payload.c``).

Where it is missing, and for what it does not take, ``h264_payload.py`` does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from relay.protocols.webrtc import native_library
from relay.protocols.webrtc.payloads import Payloads

Cut = Callable[[bytes, int], Sequence[bytes]]


@cache
def _library() -> tuple[Any, Any] | None:
    return native_library.load("payload.h", "payload_cutter")


class NativeCutter:
    """Of one stream: it keeps what it cuts in.

    Args:
        mtu: bytes of a payload at most.
        otherwise: cuts what native code does not take.

    Raises:
        MemoryError.
    """

    __slots__ = ("_buffer", "_cut", "_mtu", "_otherwise", "_state")

    def __init__(self, library: tuple[Any, Any], mtu: int, otherwise: Cut) -> None:
        self._mtu, self._otherwise = mtu, otherwise
        ffi, lib = library
        made = lib.payload_new()
        if made == ffi.NULL:
            raise MemoryError("no memory for a native cutter")
        self._state = ffi.gc(made, lib.payload_free)
        self._cut = lib.payload_cut
        self._buffer = ffi.buffer

    @classmethod
    def where_built(cls, mtu: int, otherwise: Cut) -> NativeCutter | None:
        """A cutter where the native part is built, else None."""
        library = _library()
        return cls(library, mtu, otherwise) if library is not None else None

    def cut(self, annexb: bytes) -> Sequence[bytes]:
        """The payloads of one access unit: ``Payloads``, but for none, and for what ``otherwise``
        has cut."""
        state, buffer = self._state, self._buffer
        count = self._cut(state, annexb, len(annexb), self._mtu)
        if count <= 0:
            return self._otherwise(annexb, self._mtu) if count else ()
        return Payloads(
            buffer(state.out, state.used)[:], buffer(state.lengths, 2 * count)[:], count
        )
