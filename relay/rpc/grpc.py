"""gRPC over HTTP/2, the part that is only bytes: message framing, status, timeouts.

Source: the gRPC protocol "gRPC over HTTP2" (grpc/grpc, doc/PROTOCOL-HTTP2.md).
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final

from relay.errors import ParseError, TooLarge

CONTENT_TYPE: Final = "application/grpc"
PREFIX_LENGTH: Final = 5

_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])", re.ASCII)
_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
MAX_TEXT: Final = 1024
"""Bytes of an error's text that are sent on."""


class Status(IntEnum):
    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


def frame(message: bytes) -> bytes:
    """One uncompressed message behind its 5-byte prefix."""
    return b"\0" + len(message).to_bytes(4, "big") + message


class MessageReader:
    """Takes DATA bytes in any pieces, gives whole messages.

    Args:
        limit: bytes of the largest message; it bounds what is ever buffered.
    """

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """
        Raises:
            ParseError: code ``compressed`` for a compressed message, ``grpc_frame``
                for a prefix that is none.
            TooLarge: a message over the limit, as soon as its length is known.
        """
        self._buffer += data
        messages = []
        while len(self._buffer) >= PREFIX_LENGTH:
            flag, length = self._buffer[0], int.from_bytes(self._buffer[1:5], "big")
            if flag == 1:
                raise ParseError("compressed messages are not understood", code="compressed")
            if flag != 0:
                raise ParseError(f"bad message prefix {flag:#x}", code="grpc_frame")
            if length > self._limit:
                raise TooLarge(f"message of {length} bytes is over {self._limit}")
            end = PREFIX_LENGTH + length
            if len(self._buffer) < end:
                break
            messages.append(bytes(self._buffer[PREFIX_LENGTH:end]))
            del self._buffer[:end]
        return messages

    def finish(self) -> None:
        """
        Raises:
            ParseError: the bytes end in the middle of a message.
        """
        if self._buffer:
            raise ParseError("the stream ends in the middle of a message", code="grpc_frame")


def encode_text(text: str) -> str:
    """An error's text as ``grpc-message`` carries it: percent-encoded UTF-8."""
    data = text.encode("utf-8", "replace")[:MAX_TEXT]
    return "".join(
        chr(byte) if 0x20 <= byte <= 0x7E and byte != 0x25 else f"%{byte:02X}" for byte in data
    )


def decode_text(value: str) -> str:
    """The other way; what is no escape stays as it is, as the protocol asks."""
    data = value.encode("utf-8", "replace")
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), data).decode("utf-8", "replace")


def parse_timeout(value: str) -> float:
    """``grpc-timeout`` in seconds.

    Raises:
        ParseError: not 1 to 8 digits and a unit.
    """
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise ParseError(f"bad grpc-timeout {value[:20]!r}", code="grpc_timeout")
    return int(match[1]) * _UNITS[match[2]]
