"""Datagrams in a stream of bytes: each behind its length in 16 bits (RFC 4571). Pure."""

from __future__ import annotations

from typing import Final

from relay.errors import ParseError

MAX_FRAME: Final = 2048
"""Bytes of a datagram: no peer has reason to send a longer one, by UDP or by TCP."""


class Deframer:
    """Takes bytes as they come, gives datagrams.

    It holds less than one frame, so at most MAX_FRAME + 1 bytes between two calls.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The datagrams that are complete now; empty ones are left out.

        Raises:
            ParseError: a frame is longer than MAX_FRAME. The stream is of no use after that.
        """
        data = self._held + data
        found: list[bytes] = []
        at, end = 0, len(data)
        while end - at >= 2:
            size = data[at] << 8 | data[at + 1]
            if size > MAX_FRAME:
                raise ParseError(f"a frame of {size} bytes")
            if end - at - 2 < size:
                break
            if size:
                found.append(data[at + 2 : at + 2 + size])
            at += 2 + size
        self._held = data[at:]
        return found


def frame(datagram: bytes) -> bytes:
    """The datagram behind its length."""
    return len(datagram).to_bytes(2, "big") + datagram
