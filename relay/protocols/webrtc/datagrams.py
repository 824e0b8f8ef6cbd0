"""Datagrams of a UDP socket, many in one system call (recvmmsg), by the C library's own door.

A socket read with ``recvfrom`` costs a call for each datagram and one more to learn that
nothing is left; here a wake-up mostly costs one call.
"""

from __future__ import annotations

import logging
import socket
import struct
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import cffi

from relay.protocols.webrtc.stun import Address

_log = logging.getLogger(__name__)

BATCH: Final = 64
"""Datagrams of one call, and of one wake-up."""

MAX_DATAGRAM: Final = 2048

_MAX_NAMES: Final = 4096
_NAME: Final = 28  # struct sockaddr_in6
_DONT_WAIT: Final = 0x40
_DECLARED: Final = """
    struct iovec { void *base; size_t length; };
    struct msghdr {
        void *name;
        unsigned int name_length;
        struct iovec *vectors;
        size_t vector_count;
        void *control;
        size_t control_length;
        int flags;
    };
    struct mmsghdr { struct msghdr message; unsigned int length; };
    int recvmmsg(int fd, struct mmsghdr *headers, unsigned int count, int flags, void *timeout);
"""
"""As Linux has them on machines of 64 bits."""


@cache
def _library() -> tuple[Any, Any] | None:
    if not sys.platform.startswith("linux") or sys.maxsize < 1 << 32:
        return None
    ffi = cffi.FFI()
    ffi.cdef(_DECLARED)
    try:
        library = ffi.dlopen(None)
        _ = library.recvmmsg
    except (OSError, AttributeError) as error:
        _log.debug("no recvmmsg: %s", error)
        return None
    return ffi, library


class DatagramReader:
    """Reads one non-blocking socket, a batch a call."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._fd = sock.fileno()
        self._names: dict[bytes, Address] = {}
        found = _library()
        self._library: Any = None
        if found is None:
            return
        ffi, self._library = found
        self._bytes = ffi.new("uint8_t[]", BATCH * MAX_DATAGRAM)
        self._addresses = ffi.new("uint8_t[]", BATCH * _NAME)
        self._vectors = ffi.new("struct iovec[]", BATCH)
        self._headers = ffi.new("struct mmsghdr[]", BATCH)
        self._memory = ffi.buffer(self._bytes)
        self._sources = ffi.buffer(self._addresses)
        self._null = ffi.NULL
        # Each header by itself: an index into the array makes a new object every time.
        self._each = [(header, header.message) for header in self._headers]
        for at, (_, message) in enumerate(self._each):
            self._vectors[at].base = self._bytes + at * MAX_DATAGRAM
            self._vectors[at].length = MAX_DATAGRAM
            message.vectors, message.vector_count = self._vectors + at, 1
            message.name, message.name_length = self._addresses + at * _NAME, _NAME

    def read(self) -> Iterator[tuple[bytes, Address]]:
        """What waits, BATCH at most, with its source as Python's sockets name it."""
        return self._one_by_one() if self._library is None else self._together()

    def _together(self) -> Iterator[tuple[bytes, Address]]:
        # A family's names are all of one length: what the kernel wrote there stays right.
        count = self._library.recvmmsg(self._fd, self._headers, BATCH, _DONT_WAIT, self._null)
        memory, sources, names = self._memory, self._sources, self._names
        start = at = 0
        for header, message in self._each[: max(count, 0)]:
            name = sources[at : at + message.name_length]
            address = names.get(name)
            if address is None:
                if len(names) >= _MAX_NAMES:
                    names.clear()
                address = names[name] = unpacked(name)
            yield memory[start : start + header.length], address
            start += MAX_DATAGRAM
            at += _NAME

    def _one_by_one(self) -> Iterator[tuple[bytes, Address]]:
        for _ in range(BATCH):
            try:
                yield self._socket.recvfrom(MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                _log.debug("UDP receive: %s", error)
                return


def unpacked(name: bytes) -> Address:
    """The host and port of a ``struct sockaddr_in`` or ``sockaddr_in6``."""
    family, port = struct.unpack_from("=H2s", name)
    number = int.from_bytes(port, "big")
    if family == socket.AF_INET:
        return (socket.inet_ntop(socket.AF_INET, name[4:8]), number)
    flow, inside, scope = struct.unpack_from("=4s16sI", name, 4)
    host = socket.inet_ntop(socket.AF_INET6, inside)
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    where = (host, number, int.from_bytes(flow, "big"), scope)
    return (socket.getnameinfo(where, numeric)[0] if scope else host, *where[1:])


def packed(address: Address) -> bytes:
    """``struct sockaddr_in`` or ``sockaddr_in6`` of Linux."""
    host, port = address[0], address[1]
    if len(address) == 2:
        inside = socket.inet_pton(socket.AF_INET, host)
        return struct.pack("=H2s4s8x", socket.AF_INET, port.to_bytes(2, "big"), inside)
    inside = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    flow, scope = address[2].to_bytes(4, "big"), address[3]
    return struct.pack("=H2s4s16sI", socket.AF_INET6, port.to_bytes(2, "big"), flow, inside, scope)
