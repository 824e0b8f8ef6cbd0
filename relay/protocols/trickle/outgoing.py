"""What a connection holds of the bytes that it was given, and how to take them back."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
from typing import Final

_UNSENT: Final = 0x894B
"""SIOCOUTQNSD: bytes that the kernel has taken and not sent."""
_NO_LINGER: Final = struct.pack("ii", 1, 0)


def waiting(transport: asyncio.WriteTransport) -> int:
    """Bytes that have not left this machine.

    Inside TLS the loop keeps up to 64 KB more between its two layers, which it does not tell.
    """
    held = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sock is None or sys.platform != "linux" or (descriptor := sock.fileno()) < 0:
        return held
    try:
        return held + int.from_bytes(fcntl.ioctl(descriptor, _UNSENT, bytes(4)), sys.byteorder)
    except OSError:  # no TCP
        return held


def take_back(transport: asyncio.WriteTransport) -> None:
    """Cut the connection; what has not left never does. An ordinary end would send it first."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
