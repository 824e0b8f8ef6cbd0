"""The one UDP socket that all peers share.

STUN requests find their session by our user name, responses by their transaction,
everything else by its source address (RFC 7983 tells them apart by the first byte). Where the
port is bound to all addresses of the machine, a source is named with the one of ours that it
wrote to (``datagrams.py``), and answers leave from there.
A datagram of a stranger costs one dictionary lookup and is answered by silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from relay.errors import ConfigError, ParseError
from relay.protocols.webrtc import stun
from relay.protocols.webrtc.addresses import WILDCARDS
from relay.protocols.webrtc.datagrams import (
    BATCH,
    DatagramReader,
    leaving,
    names_ours,
    tell_ours,
    waits,
)
from relay.protocols.webrtc.native_receive import NativeReceiver
from relay.protocols.webrtc.path import SILENCE, Path, is_stream
from relay.protocols.webrtc.registered import Registered
from relay.protocols.webrtc.sources import CHECKS_OF_A_PEER, Sources, Strangers
from relay.protocols.webrtc.stun import Address, Message
from relay.protocols.webrtc.udp_statistics import UdpStatistics

BUFFER: Final = 8 << 20
"""Bytes asked for each way."""
TURN: Final = 0.002
"""Seconds of other work, since the last read, for which one batch more is read."""
MORE: Final = 7
"""Batches more at most: then the others have their turn."""


class Stream(Protocol):
    """A connection that stands for an address."""

    def send(self, datagram: bytes) -> bool:
        """Whether it was taken."""

    def finish(self) -> None:
        """No session hears from there any more: close, once all is sent."""

    def identified(self) -> None:
        """A session hears from there now: an authenticated check has come."""


class Listener(Protocol):
    """Who hears what comes: an ICE session, or a process that has sessions of its own."""

    @property
    def on_datagram(self) -> Callable[[bytes, Any, float], None]: ...

    def request(self, message: Message, address: Address, now: float) -> None: ...

    def response(self, message: Message, address: Address, now: float) -> None: ...


class Holder(Protocol):
    """Whom an address belongs to: a ``Path`` of a session, or one of another process."""

    seen: float
    lost: bool

    @property
    def session(self) -> Listener: ...


class UdpPort:
    """A bound UDP socket and who listens on it.

    Attributes:
        expected: listeners in other processes that have answered a check, or sent one, at an
            address that is nobody's yet. Whoever writes there keeps it small.
        on_stray: called with what comes from nobody's address and is no STUN.
    """

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._socket = sock
        self._watched = sock.fileno()
        self._loop = loop
        name = sock.getsockname()
        self.host: str = name[0]
        self.port: int = name[1]
        self._statistics = UdpStatistics()
        self.native: NativeReceiver | None = None
        self._by_ufrag = Registered[bytes, Listener]()
        self._by_transaction = Registered[bytes, Listener]()
        self._by_address = Registered[Address, Holder]()
        self.expected = Registered[Address, Listener]()
        self._streams: dict[Address, Stream] = {}
        self._familiar = familiar = Sources(CHECKS_OF_A_PEER)
        self._strangers = Strangers(
            self._by_ufrag, self._by_transaction, self.expected, familiar, self._statistics
        )
        self.on_stray: Callable[[bytes, Address, float], None] = lambda *_: None
        self._open = True
        self._read_at = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        self._datagrams = DatagramReader(self._socket)
        self._loop.add_reader(self._watched, self._read)

    @classmethod
    async def open(cls, host: str, port: int, *, calling: bool = False) -> UdpPort:
        """Bind; port 0 takes a free one. ``::`` serves IPv4 too.

        Args:
            calling: we write first, and the kernel chooses each time which address of ours from.

        Raises:
            ConfigError: ``udp_bind``, the address cannot be bound.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            if host in WILDCARDS and not calling:
                tell_ours(sock)
            sock.bind((host, port))
        except OSError as error:
            sock.close()
            raise ConfigError(
                f"cannot bind UDP {host} port {port}: {error.strerror}", code="udp_bind"
            ) from error
        return cls(sock, asyncio.get_running_loop())

    def address_of(self, host: str, port: int) -> Address | None:
        """How this socket names a literal address, None when it cannot reach its family."""
        version = ipaddress.ip_address(host).version
        if self._socket.family == socket.AF_INET:
            return (host, port) if version == 4 else None
        return (f"::ffff:{host}" if version == 4 else host, port, 0, 0)

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def statistics(self) -> UdpStatistics:
        if self.native is not None:
            self.native.count(self._statistics)
        return self._statistics

    @property
    def buffers(self) -> tuple[int, int]:
        """Bytes that the system granted to read and to write, of BUFFER each."""
        granted = (
            self._socket.getsockopt(socket.SOL_SOCKET, option)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF)
        )
        # Linux tells twice what it was asked for, its own bookkeeping included.
        reading, writing = (each // 2 if sys.platform == "linux" else each for each in granted)
        return reading, writing

    # -- ice.Port ------------------------------------------------------------------------

    def sendto(self, data: bytes, address: Address) -> bool:
        """Send one datagram; when the socket is full it is dropped and counted. Whether it left."""
        if is_stream(address):
            return self._stream(data, address)
        try:
            if names_ours(address):
                self._socket.sendmsg([data], *leaving(address))
            else:
                self._socket.sendto(data, address)
        except OSError:
            self._statistics.unsent += 1
            return False
        self._statistics.sent += 1
        return True

    def sender(self, address: Address) -> Callable[[bytes], Any]:
        """``sendto`` of one address, with as little in between as can be."""
        send, statistics = self._socket.sendto, self._statistics
        if is_stream(address):
            return lambda data: self._stream(data, address)
        if names_ours(address):
            return lambda data: self.sendto(data, address)

        def transmit(data: bytes) -> None:
            try:
                send(data, address)
            except OSError:
                statistics.unsent += 1

        return transmit

    def _stream(self, data: bytes, address: Address) -> bool:
        stream = self._streams.get(address)
        taken = stream is not None and stream.send(data)
        self.count(int(taken), int(not taken))
        return taken

    @property
    def unread(self) -> bool:
        """Whether something waits in the socket."""
        return waits(self._socket)

    def add_stream(self, address: Address, stream: Stream) -> None:
        """From now on ``stream`` is what sends to an address of ``path.is_stream``."""
        self._streams[address] = stream

    def drop_stream(self, address: Address) -> None:
        """Its connection has ended: the session is to look for another path."""
        self._streams.pop(address, None)
        path = self._by_address.pop(address, None)
        if path is not None:
            path.lost = True

    def has_stream(self, address: Address) -> bool:
        return address in self._streams

    def expects(self, address: Address) -> bool:
        """Whether what comes from there may be somebody's."""
        return address in self._by_address or address in self.expected

    def holder(self, address: Address) -> Holder | None:
        return self._by_address.get(address)

    def count(self, sent: int, unsent: int) -> None:
        """Datagrams that others sent through this socket, and that they could not."""
        self._statistics.sent += sent
        self._statistics.unsent += unsent

    def add_ufrag(self, ufrag: bytes, session: Listener) -> None:
        self._by_ufrag[ufrag] = session

    def drop_ufrag(self, ufrag: bytes) -> None:
        self._by_ufrag.pop(ufrag, None)

    def add_transaction(self, transaction: bytes, session: Listener) -> None:
        self._by_transaction[transaction] = session

    def drop_transaction(self, transaction: bytes) -> None:
        self._by_transaction.pop(transaction, None)

    def claim(self, address: Address, path: Holder, now: float) -> bool:
        """Let datagrams from ``address`` go to this path.

        Refused while another session hears from there: a client with good credentials
        of its own cannot cut another off by a forged source address.
        """
        holder = self._by_address.get(address)
        if holder is path:
            return True
        if isinstance(holder, Path):
            holder.refresh()
        foreign = holder is not None and holder.session is not path.session
        if foreign and holder is not None and now - holder.seen < SILENCE:
            return False
        self._by_address[address] = path
        if self.native is not None and not is_stream(address):
            self.native.forget(address)
        if (stream := self._streams.get(address)) is not None:
            stream.identified()
        return True

    def release(self, address: Address, path: Holder) -> None:
        if self._by_address.get(address) is path:
            del self._by_address[address]
            if (stream := self._streams.get(address)) is not None:
                stream.finish()
            if self.native is not None and not is_stream(address):
                self.native.forget(address)

    @property
    def idle(self) -> bool:
        """Whether no session is left on this port."""
        return not (self._by_ufrag or self._by_transaction or self._by_address or self.expected)

    # -- reading -------------------------------------------------------------------------

    def read_natively(self) -> None:
        """From now on have the common case of media done by native code, where it is built."""
        native = NativeReceiver.over(self._socket.fileno())
        if native is not None:
            self._loop.remove_reader(self._watched)
            self._watched = native.watch()
            self._loop.add_reader(self._watched, native.reader(self._datagram))
            self.native = native
            native.guard(self._by_ufrag, self._by_transaction, (self._by_address, self.expected))

    def _read(self) -> None:
        """Deal with what waits: a batch, and one more for each turn that all else has taken since
        the last time. Who sends to many for long would else hear nobody. Native code does the same.
        """
        now = time.monotonic()
        most = 1 + min(MORE, int((now - self._read_at) / TURN))
        count = self._batch(now)
        while count == BATCH and most > 1 and self._open:
            most -= 1
            count = self._batch(time.monotonic())
        self._read_at = time.monotonic()

    def _batch(self, now: float) -> int:
        count = 0
        for data, address in self._datagrams.read():
            if not self._open:
                break
            count += 1
            self._datagram(data, address, now)
        self._statistics.received += count
        return count

    def _datagram(self, data: bytes, address: Address, now: float) -> None:
        if not data:
            return
        if data[0] > 3:
            path = self._by_address.get(address)
            if path is not None:
                path.session.on_datagram(data, path, now)
            elif (listener := self.expected.get(address)) is not None:
                listener.on_datagram(data, address, now)
            else:
                self._statistics.strangers += 1
                self.on_stray(data, address, now)
        else:
            self._stun(data, address, now)

    def datagram(self, data: bytes, address: Address, now: float) -> None:
        """Take what came by a stream; ``_read`` does the same without a call for each."""
        self._statistics.received += 1
        path = self._by_address.get(address)
        if data[0] <= 3:
            self._stun(data, address, now)
        elif path is not None:
            path.session.on_datagram(data, path, now)
        elif (listener := self.expected.get(address)) is not None:
            listener.on_datagram(data, address, now)
        else:
            self._statistics.strangers += 1

    def _stun(self, data: bytes, address: Address, now: float) -> None:
        if address in self._by_address:
            # Nobody can guess the transaction of a check of ours: its answer is no flood.
            ours = data[8:20] in self._by_transaction
            if not ours and not self._familiar.take(address, now):
                self._statistics.flooded += 1
                return
        elif not self._strangers.admit(data, address, now):
            return
        try:
            message = stun.parse(data)
        except ParseError:
            self._statistics.malformed += 1
            return
        if message.kind == stun.BINDING_REQUEST:
            ufrag = message.attributes.get(stun.USERNAME, b"").partition(b":")[0]
            session = self._by_ufrag.get(ufrag)
            if session is not None:
                session.request(message, address, now)
                return
        elif message.kind in (stun.BINDING_SUCCESS, stun.BINDING_ERROR):
            session = self._by_transaction.get(message.transaction) or self._elsewhere(address)
            if session is not None:
                session.response(message, address, now)
                return
        self._statistics.strangers += 1

    def _elsewhere(self, address: Address) -> Listener | None:
        """The process whose own transactions answers from there may be of."""
        path = self._by_address.get(address)
        if path is None:
            return self.expected.get(address)
        return None if isinstance(path, Path) else path.session

    def close(self) -> None:
        """Stop reading and give the port back."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._watched)
            if self.native is not None:
                self.native.close()
            self._socket.close()
