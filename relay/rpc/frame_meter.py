"""Counts HTTP/2 frames as their bytes come in, ahead of the library that parses them.

`h2` buffers a whole frame before it looks at the frame's length, and answers every PING,
SETTINGS and RST_STREAM however fast they come. This meter reads only the nine-byte frame
headers (RFC 9113 4.1) and says no first.
"""

from __future__ import annotations

from typing import Final

from relay.errors import RateLimited, TooLarge

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_LENGTH: Final = 9

DATA: Final = 0x0
HEADERS: Final = 0x1
RST_STREAM: Final = 0x3
CONTINUATION: Final = 0x9

SMALL: Final = 64
"""Bytes of a DATA payload under which the frame costs more than it brings."""


class _Budget:
    """So many at once, and so many a second."""

    __slots__ = ("_left", "_peak", "_rate", "_then")

    def __init__(self, peak: float, rate: float) -> None:
        self._peak = self._left = peak
        self._rate = rate
        self._then: float | None = None

    def take(self, now: float) -> bool:
        if self._then is not None:
            self._left = min(self._peak, self._left + (now - self._then) * self._rate)
        self._then = now
        self._left -= 1
        return self._left >= 0

    def give(self, amount: float) -> None:
        self._left = min(self._peak, self._left + amount)


class FrameMeter:
    """
    Args:
        max_frame: bytes of the largest payload that was announced to the peer.
        preface: whether the connection preface comes first (it does from a client).
    """

    __slots__ = ("_control", "_header", "_max_frame", "_resets", "_skip")

    def __init__(self, *, max_frame: int = 16384, preface: bool) -> None:
        self._max_frame = max_frame
        self._skip = len(PREFACE) if preface else 0
        self._header = bytearray()
        self._resets = _Budget(peak=100, rate=10)
        self._control = _Budget(peak=1000, rate=100)

    def feed(self, data: bytes, now: float) -> None:
        """
        Raises:
            TooLarge: a frame says that it is longer than was allowed.
            RateLimited: streams are reset, or control frames or crumbs of data sent,
                too fast.
        """
        offset = 0
        while offset < len(data):
            if self._skip:
                step = min(self._skip, len(data) - offset)
                self._skip -= step
                offset += step
                continue
            step = min(HEADER_LENGTH - len(self._header), len(data) - offset)
            self._header += data[offset : offset + step]
            offset += step
            if len(self._header) == HEADER_LENGTH:
                self._skip = self._frame(now)
                self._header.clear()

    def _frame(self, now: float) -> int:
        length = int.from_bytes(self._header[:3], "big")
        kind = self._header[3]
        if length > self._max_frame:
            raise TooLarge(f"frame of {length} bytes is over {self._max_frame}")
        if kind == HEADERS:
            # A call brings a few control frames of its own with it.
            self._control.give(4)
        elif kind == RST_STREAM:
            self.reset(now)
        elif not _brings_something(kind, length) and not self._control.take(now):
            raise RateLimited("control frames come too fast")
        return length

    def reset(self, now: float) -> None:
        """A stream was reset: by the peer, or by us since the peer broke its rules.

        Both end work that was begun, and a peer that makes us reset needs no RST_STREAM
        of its own.

        Raises:
            RateLimited: too many of them.
        """
        if not self._resets.take(now):
            raise RateLimited("streams are reset too fast")


def _brings_something(kind: int, length: int) -> bool:
    return length >= SMALL if kind == DATA else kind == CONTINUATION and length > 0
