"""The gateway's UDP port, as lent to a process of its own: it sends from it and never reads it.

What comes in is handed over by the gateway, which is told whose it will be.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from relay.protocols.webrtc.datagrams import waits
from relay.protocols.webrtc.native_receive import NativeReceiver
from relay.protocols.webrtc.path import is_stream
from relay.protocols.webrtc.processes.messages import (
    Claim,
    Datagram,
    Expect,
    Message,
    Release,
    Ufrag,
)
from relay.protocols.webrtc.stun import BINDING_REQUEST, Address
from relay.protocols.webrtc.udp import Holder, Listener, UdpPort

_CHECK = BINDING_REQUEST.to_bytes(2, "big")


class LentPort(UdpPort):
    """
    Args:
        sock: the gateway's, of which this process has a descriptor of its own.
        tell: to the gateway.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[Message], None],
    ) -> None:
        self._tell = tell
        self._foreign: Address | None = None
        self._inlet: socket.socket | None = None
        self._look: Callable[[], int] = lambda: 0
        super().__init__(sock, loop)

    def _begin(self) -> None:
        return  # the gateway reads

    def read_inlet(self, inlet: socket.socket | None) -> None:
        """Have native code take what the gateway's native code hands on.

        Args:
            inlet: None where the gateway has none: all comes to ``receive``.
        """
        self.native = None if inlet is None else NativeReceiver.over(inlet.fileno())
        if inlet is not None and self.native is not None:
            self.native.unwrap(self.fileno())
            self._look = self.native.reader(self._datagram)
            self._inlet, self._watched = inlet, self.native.watch()
            self._loop.add_reader(self._watched, self._take)

    def _take(self) -> None:
        self._foreign = None
        if not self._look() and self._inlet is not None and _ended(self._inlet):
            self._close_inlet()  # the gateway is gone, which the link says too

    @property
    def unread(self) -> bool:
        """Whether something waits, with the gateway or on the way from it."""
        return super().unread or (self._inlet is not None and waits(self._inlet))

    def _close_inlet(self) -> None:
        if self._inlet is not None:
            self._loop.remove_reader(self._watched)
            self._inlet.close()
            self._inlet = None

    def close(self) -> None:
        self._close_inlet()
        super().close()

    def receive(self, message: Datagram, now: float) -> None:
        """Take what the gateway has read."""
        data, address = message.data, message.address
        if not data:
            return
        self._foreign = address if message.foreign else None
        if self.native is not None and address in self._by_address and not is_stream(address):
            self.native.put(data, address, self.datagram, now)
        elif data[0] > 3 and address not in self._by_address and not is_stream(address):
            self._statistics.strangers += 1
            self.on_stray(data, address, now)
        else:
            self.datagram(data, address, now)

    def sendto(self, data: bytes, address: Address) -> bool:
        if data[:2] == _CHECK and address not in self._by_address:
            self._tell(Expect(address))
        return super().sendto(data, address)

    def _stream(self, data: bytes, address: Address) -> bool:
        self._statistics.sent += 1
        self._tell(Datagram(address, data))
        return True

    def add_ufrag(self, ufrag: bytes, session: Listener) -> None:
        super().add_ufrag(ufrag, session)
        self._tell(Ufrag(ufrag.decode(), mine=True))

    def drop_ufrag(self, ufrag: bytes) -> None:
        super().drop_ufrag(ufrag)
        self._tell(Ufrag(ufrag.decode(), mine=False))

    def claim(self, address: Address, path: Holder, now: float) -> bool:
        """Refused also while a peer of another process is heard from there."""
        if address == self._foreign:
            return False
        known = address in self._by_address
        if not super().claim(address, path, now):
            return False
        if not known:
            self._tell(Claim(address))
        return True

    def release(self, address: Address, path: Holder) -> None:
        held = self._by_address.get(address) is path
        super().release(address, path)
        if held:
            self._tell(Release(address))


def _ended(sock: socket.socket) -> bool:
    try:
        return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
