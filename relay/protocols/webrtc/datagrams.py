"""Datagrams of a UDP socket, many in one system call (recvmmsg), by the C library's own door.

A socket read with ``recvfrom`` costs a call for each datagram and one more to learn that
nothing is left; here a wake-up mostly costs one call.

A socket that is bound to all addresses of the machine can tell to which one a datagram came
(``tell_ours``). Its source is then named with that: (host, port, flow, scope, ours), for IPv4
too, and what goes there leaves from that address. The same source may so have several names:
each is a way of its own.
"""

from __future__ import annotations

import fcntl
import logging
import socket
import struct
import sys
import termios
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any, Final

import cffi

from relay.protocols.webrtc.stun import Address

_log = logging.getLogger(__name__)

BATCH: Final = 64
"""Datagrams of one call, and of one wake-up."""

MAX_DATAGRAM: Final = 2048

_MAX_NAMES: Final = 4096
_NAME: Final = 28  # struct sockaddr_in6
_NAME4: Final = 16
_PLACE: Final = 72  # of a name, and the control data that tells ours behind it
_CONTROL: Final = 32  # where that begins
_OURS4: Final = slice(_CONTROL + 20, _CONTROL + 24)  # struct in_pktinfo: ipi_spec_dst
_OURS6: Final = slice(_CONTROL + 16, _CONTROL + 32)  # struct in6_pktinfo: ipi6_addr
_IP_PKTINFO: Final = 8  # Linux; Python names it from 3.14 on
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50
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


def tell_ours(sock: socket.socket) -> None:
    """Have a socket tell to which of our addresses each datagram came, where this system can."""
    if _library() is None:
        return
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)


def _tells_ours(sock: socket.socket) -> bool:
    if _library() is None:
        return False
    if sock.family == socket.AF_INET:
        return sock.getsockopt(socket.IPPROTO_IP, _IP_PKTINFO) != 0
    return sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO) != 0


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
        ipv4, tells = sock.family == socket.AF_INET, _tells_ours(sock)
        # A family's names are all of one length, and so is what tells ours: what the kernel
        # writes there at the first read stays right.
        self._name = _PLACE if tells else _NAME4 if ipv4 else _NAME
        self._bytes = ffi.new("uint8_t[]", BATCH * MAX_DATAGRAM)
        self._addresses = ffi.new("uint64_t[]", BATCH * _PLACE // 8)
        self._vectors = ffi.new("struct iovec[]", BATCH)
        self._headers = ffi.new("struct mmsghdr[]", BATCH)
        self._memory = ffi.buffer(self._bytes)
        self._sources = ffi.buffer(self._addresses)
        self._null = ffi.NULL
        # Each header by itself: an index into the array makes a new object every time.
        self._each = [(header, header.message) for header in self._headers]
        places = ffi.cast("uint8_t *", self._addresses)
        for at, (_, message) in enumerate(self._each):
            self._vectors[at].base = self._bytes + at * MAX_DATAGRAM
            self._vectors[at].length = MAX_DATAGRAM
            message.vectors, message.vector_count = self._vectors + at, 1
            message.name, message.name_length = places + at * _PLACE, _NAME
            if tells:
                message.control = places + at * _PLACE + _CONTROL
                message.control_length = 32 if ipv4 else 40

    def read(self) -> Iterator[tuple[bytes, Address]]:
        """What waits, BATCH at most, with its source as Python's sockets name it, or as above."""
        return self._one_by_one() if self._library is None else self._together()

    def _together(self) -> Iterator[tuple[bytes, Address]]:
        count = self._library.recvmmsg(self._fd, self._headers, BATCH, _DONT_WAIT, self._null)
        memory, sources, names, size = self._memory, self._sources, self._names, self._name
        start = at = 0
        for header, _ in self._each[: max(count, 0)]:
            name = sources[at : at + size]
            address = names.get(name)
            if address is None:
                if len(names) >= _MAX_NAMES:
                    names.clear()
                address = names[name] = _unpacked_place(name) if size == _PLACE else unpacked(name)
            yield memory[start : start + header.length], address
            start += MAX_DATAGRAM
            at += _PLACE

    def _one_by_one(self) -> Iterator[tuple[bytes, Address]]:
        for _ in range(BATCH):
            try:
                yield self._socket.recvfrom(MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                _log.debug("UDP receive: %s", error)
                return


def waits(sock: socket.socket) -> bool:
    """Whether a datagram is there to be read."""
    size = bytearray(4)
    fcntl.ioctl(sock, termios.FIONREAD, size)
    return any(size)


def _unpacked_place(place: bytes) -> Address:
    """A name with the kernel's control data behind it."""
    if int.from_bytes(place[:2], sys.byteorder) == socket.AF_INET:
        return unpacked(place[:_NAME4] + place[_OURS4])
    return unpacked(place[:_NAME] + place[_OURS6])


def unpacked(name: bytes) -> Address:
    """The host and port of a ``struct sockaddr_in`` or ``sockaddr_in6``; with an address of ours
    behind it, that too."""
    family, port = struct.unpack_from("=H2s", name)
    number = int.from_bytes(port, "big")
    if family == socket.AF_INET:
        host = socket.inet_ntop(socket.AF_INET, name[4:8])
        if len(name) == _NAME4:
            return (host, number)
        return (host, number, 0, 0, socket.inet_ntop(socket.AF_INET, name[_NAME4:]))
    flow, inside, scope = struct.unpack_from("=4s16sI", name, 4)
    host = socket.inet_ntop(socket.AF_INET6, inside)
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    where = (host, number, int.from_bytes(flow, "big"), scope)
    named = (socket.getnameinfo(where, numeric)[0] if scope else host, *where[1:])
    if len(name) == _NAME:
        return named
    return (*named, socket.inet_ntop(socket.AF_INET6, name[_NAME:]))


def packed(address: Address) -> bytes:
    """``struct sockaddr_in`` or ``sockaddr_in6`` of Linux, and the address of ours behind it."""
    return sockaddr(address) + ours(address)


def sockaddr(address: Address) -> bytes:
    host, port = address[0], address[1]
    if ":" not in host:
        inside = socket.inet_pton(socket.AF_INET, host)
        return struct.pack("=H2s4s8x", socket.AF_INET, port.to_bytes(2, "big"), inside)
    inside = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    flow, scope = address[2].to_bytes(4, "big"), address[3]
    return struct.pack("=H2s4s16sI", socket.AF_INET6, port.to_bytes(2, "big"), flow, inside, scope)


def names_ours(address: Address) -> bool:
    """Whether it says from which of our addresses to send there."""
    return len(address) == 5


def ours(address: Address) -> bytes:
    """That one, 4 or 16 bytes; none where the kernel is to choose."""
    if not names_ours(address):
        return b""
    family = socket.AF_INET6 if ":" in address[4] else socket.AF_INET
    return socket.inet_pton(family, address[4])


Sent = tuple[list[tuple[int, int, bytes]], int, Address]


@lru_cache(maxsize=4096)
def leaving(address: Address) -> Sent:
    """The arguments of ``socket.sendmsg`` behind its buffers, for one that names ours."""
    inside = ours(address)
    if len(inside) == 4:
        info = struct.pack("=i4s4x", 0, inside)
        return [(socket.IPPROTO_IP, _IP_PKTINFO, info)], 0, address[:2]
    info = struct.pack("=16sI", inside, 0)
    return [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, info)], 0, address[:4]
