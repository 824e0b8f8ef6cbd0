"""ICE-TCP, passive (RFC 6544): the same peers, for those whose UDP is blocked.

A connection stands for one remote address of an ICE session; above it all is as over UDP.
Strangers can only connect and wait: who does not begin with an authenticated check is
dropped, a little later also who says nothing. What a peer does not read is dropped as a
full UDP socket drops it, and a peer that reads nothing for a while is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections import Counter
from typing import Final, cast

from relay.config import WebRtc
from relay.errors import ConfigError, ParseError
from relay.protocols.webrtc.addresses import (
    WILDCARDS,
    candidates_of,
    local_hosts,
    told_addresses,
)
from relay.protocols.webrtc.framing import Deframer, frame
from relay.protocols.webrtc.sdp import Candidate
from relay.protocols.webrtc.stun import Address
from relay.protocols.webrtc.udp import UdpPort

_log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 2048
MAX_UNKNOWN: Final = 256
"""Connections that no session knows yet; the oldest makes room for a new one."""
MAX_UNKNOWN_OF_A_HOST: Final = 64
UNKNOWN_LIFE: Final = 5.0
"""Seconds from the connection to the first authenticated check."""
MAX_CHECKS: Final = 8
"""Datagrams that may come before it: a check may overtake the answer that it is for."""
MAX_UNREAD: Final = 256 << 10
"""Bytes that wait for a peer: about a second of picture. What comes after is dropped."""
STUCK: Final = 5.0
"""Seconds after which a peer that does not read is left."""
_BACKLOG: Final = 128


class _Connection(asyncio.Protocol):
    """One peer's, or one stranger's."""

    def __init__(self, port: TcpPort) -> None:
        self._port = port
        self._frames = Deframer()
        self._timer: asyncio.TimerHandle | None = None
        self._checks = 0
        self._full = False
        self.transport: asyncio.Transport
        self.address: Address = ()
        self.known = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # of uvloop it is no instance
        peer = self.transport.get_extra_info("peername")
        if not peer:
            self.transport.abort()  # gone before it was here
            return
        sock = self.transport.get_extra_info("socket")
        self.address = (peer[0], peer[1], self._port.name_of(self.transport))
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_UNREAD)
        self.transport.set_write_buffer_limits(high=MAX_UNREAD)
        if not self._port.admit(self):
            self.address = ()
            self.transport.abort()
            return
        self._wait(UNKNOWN_LIFE)

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self.transport.abort)

    def _wait_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def data_received(self, data: bytes) -> None:
        try:
            found = self._frames.feed(data)
        except ParseError:
            self.transport.abort()
            return
        for datagram in found:
            if not self.known and not self._check(datagram):
                self.transport.abort()
                return
            self._port.udp.datagram(datagram, self.address, time.monotonic())

    def _check(self, datagram: bytes) -> bool:
        """Whether this may be the beginning of a session."""
        self._checks += 1
        if self._checks > MAX_CHECKS:
            return False
        return datagram[0] <= 3 or self._port.udp.expects(self.address)

    def identified(self) -> None:
        if not self.known:
            self.known = True
            self._wait_no_more()
            self._port.identified(self)

    def send(self, datagram: bytes) -> bool:
        if self._full or self.transport.is_closing():
            return False
        self.transport.write(frame(datagram))
        return True

    def finish(self) -> None:
        self._wait_no_more()
        if not self.transport.is_closing():
            self.transport.close()
            self._wait(STUCK)  # for one that does not read what is left

    def pause_writing(self) -> None:
        self._full = True
        self._wait_no_more()
        self._wait(STUCK)

    def resume_writing(self) -> None:
        self._full = False
        self._wait_no_more()
        if not self.known:
            self._wait(UNKNOWN_LIFE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        if self.address:
            self._port.lost(self)


class TcpPort:
    """A listening TCP socket beside the UDP port, whose sessions it shares."""

    def __init__(self, udp: UdpPort, host: str) -> None:
        self.udp = udp
        self.port = 0
        self._several = host in WILDCARDS
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._unknown: dict[_Connection, None] = {}
        self._unknown_of: Counter[str] = Counter()

    @classmethod
    async def open(cls, udp: UdpPort, host: str, port: int) -> TcpPort:
        """Listen; port 0 takes a free one. ``::`` serves IPv4 too.

        Raises:
            ConfigError: ``tcp_bind``, the address cannot be bound.
        """
        made = cls(udp, host)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind((host, port))
            made._server = await asyncio.get_running_loop().create_server(
                lambda: _Connection(made), sock=sock, backlog=_BACKLOG
            )
        except OSError as error:
            sock.close()
            raise ConfigError(
                f"cannot bind TCP {host} port {port}: {error.strerror}", code="tcp_bind"
            ) from error
        made.port = sock.getsockname()[1]
        return made

    def __len__(self) -> int:
        return len(self._connections)

    def name_of(self, transport: asyncio.Transport) -> str:
        """The third part of an address of ``path.is_stream``: a router may use one port of its
        own towards several of our addresses, for peers that have nothing to do with another."""
        name = transport.get_extra_info("sockname") if self._several else None
        return str(name[0]) if name else "tcp"

    def admit(self, connection: _Connection) -> bool:
        """Whether a new connection may stay."""
        host = str(connection.address[0])
        if len(self._connections) >= MAX_CONNECTIONS:
            return False
        if self._unknown_of[host] >= MAX_UNKNOWN_OF_A_HOST:
            return False
        if len(self._unknown) >= MAX_UNKNOWN:
            oldest = next(iter(self._unknown))
            self.identified(oldest)  # its place is free at once
            oldest.transport.abort()
        self._connections.add(connection)
        self._unknown[connection] = None
        self._unknown_of[host] += 1
        self.udp.add_stream(connection.address, connection)
        return True

    def identified(self, connection: _Connection) -> None:
        """A session knows it, or it is to go: it is no longer one of the unknown."""
        if connection in self._unknown:
            del self._unknown[connection]
            host = str(connection.address[0])
            self._unknown_of[host] -= 1
            if not self._unknown_of[host]:
                del self._unknown_of[host]

    def lost(self, connection: _Connection) -> None:
        self.identified(connection)
        self._connections.discard(connection)
        self.udp.drop_stream(connection.address)

    def close(self) -> None:
        """Listen no more and end each connection, once what was said is sent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.finish()


async def open_ports(
    settings: WebRtc, *, calling: bool = False
) -> tuple[UdpPort, TcpPort | None, list[Candidate]]:
    """All that peers are reached by, and how it is told to them.

    Args:
        calling: as ``UdpPort.open``.

    Raises:
        ConfigError: ``udp_bind``, ``tcp_bind``, ``public_address``.
    """
    told = told_addresses(settings.public_addresses, settings.host)
    udp = await UdpPort.open(settings.host, settings.port, calling=calling)
    if settings.native:
        udp.read_natively()
    tcp = None
    if settings.tcp_port is not None:
        try:
            tcp = await TcpPort.open(udp, settings.host, settings.tcp_port)
        except ConfigError:
            udp.close()
            raise
    hosts = told or local_hosts(udp.host)
    return udp, tcp, candidates_of(hosts, udp.port, None if tcp is None else tcp.port)
