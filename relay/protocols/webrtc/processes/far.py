"""How the gateway's UDP port finds the process that a datagram is for.

To the port a process is one more listener: its sessions' user names and the addresses that
they have claimed stand in the same tables as the gateway's own. What comes from a claimed
address native code hands on by itself (``inlet.py``); the rest, and all where that is not
built, costs one look-up, like any other datagram, and a write shared with the others of a read.
"""

from __future__ import annotations

from typing import Any, Final

from relay.protocols.webrtc.path import SILENCE, is_stream
from relay.protocols.webrtc.processes.inlet import Inlet
from relay.protocols.webrtc.processes.link import Link
from relay.protocols.webrtc.processes.messages import (
    Claim,
    Datagram,
    Expect,
    Lost,
    Placed,
    Release,
    Ufrag,
)
from relay.protocols.webrtc.processes.wire import datagram
from relay.protocols.webrtc.stun import Address, Message
from relay.protocols.webrtc.udp import UdpPort

MAX_EXPECTED: Final = 1024
"""Addresses whose check has been handed on and is not yet known to be authentic."""

MAX_UNREAD: Final = 1 << 20
"""Bytes that wait for the process; beyond that datagrams are dropped, as a full socket does."""


class FarPath:
    """An address that a process's session hears from.

    Attributes:
        native: what native code hands on from there, where it does.
    """

    __slots__ = ("_seen", "address", "native", "session")

    def __init__(self, address: Address, session: Far, now: float) -> None:
        self.address = address
        self.session = session
        self.native: Any = None
        self._seen = now

    @property
    def seen(self) -> float:
        return self._seen if self.native is None else max(self._seen, self.native.seen)

    @seen.setter
    def seen(self, value: float) -> None:
        self._seen = value

    @property
    def lost(self) -> bool:
        return self.session.holds(self.address) is not self

    @lost.setter
    def lost(self, _: bool) -> None:
        self.session.stream_ended(self)


class Far:
    """All sessions of one process, as the port sees them.

    Args:
        inlet: how native code hands datagrams on; it is closed with this.
    """

    def __init__(self, udp: UdpPort, link: Link, inlet: Inlet) -> None:
        self._forwarded = 0
        self._dropped = 0
        self._udp = udp
        self._link = link
        self._inlet = inlet
        inlet.given()
        self._held: dict[Address, FarPath] = {}
        self._expected: dict[Address, None] = {}
        self._ufrags: set[bytes] = set()

    def holds(self, address: Address) -> FarPath | None:
        return self._held.get(address)

    @property
    def addresses(self) -> list[Address]:
        """Where its viewers are: an authentic check has come from there."""
        return list(self._held)

    @property
    def forwarded(self) -> int:
        """Datagrams handed on."""
        natives = (path.native for path in self._held.values())
        return self._forwarded + sum(int(each.passed) for each in natives if each is not None)

    @property
    def dropped(self) -> int:
        """Those that the process had no room for."""
        natives = (path.native for path in self._held.values())
        return self._dropped + sum(int(each.dropped) for each in natives if each is not None)

    # -- what the port hears

    def on_datagram(self, data: bytes, path: FarPath | Address, now: float) -> None:
        if isinstance(path, FarPath):
            path.seen = now
            self._forward(data, path.address)
        else:
            self._forward(data, path)

    def request(self, message: Message, address: Address, now: float) -> None:
        holder = self._udp.holder(address)
        foreign = False
        if holder is None:
            self._expect(address)
        elif holder.session is self:
            holder.seen = now
        else:
            foreign = now - holder.seen < SILENCE
        self._forward(message.raw, address, foreign=foreign)

    def response(self, message: Message, address: Address, now: float) -> None:
        self._forward(message.raw, address)

    def stray(self, data: bytes, address: Address) -> None:
        """It comes from nobody's address; a viewer that has moved may have sent it."""
        self._forward(data, address)

    def _forward(self, data: bytes, address: Address, *, foreign: bool = False) -> None:
        if self._link.waiting > MAX_UNREAD:
            self._dropped += 1
            return
        self._forwarded += 1
        self._link.batch(datagram(address, data, foreign=foreign))

    # -- what the process says

    def take(self, message: Ufrag | Placed | Datagram, now: float) -> None:
        match message:
            case Ufrag():
                self._name(message.ufrag.encode(), mine=message.mine)
            case Datagram():
                if is_stream(message.address):  # to all others it sends by itself
                    self._udp.sendto(message.data, message.address)
            case Claim():
                self._claim(message.address, now)
            case Expect():
                if self._udp.holder(message.address) is None:
                    self._expect(message.address)
            case Release():
                path = self._held.pop(message.address, None)
                if path is not None:
                    self._udp.release(message.address, path)
                    self._displace(path)
            case Lost():
                return  # is told to processes only

    def _name(self, ufrag: bytes, *, mine: bool) -> None:
        if mine:
            self._ufrags.add(ufrag)
            self._udp.add_ufrag(ufrag, self)
        elif ufrag in self._ufrags:
            self._ufrags.discard(ufrag)
            self._udp.drop_ufrag(ufrag)

    def _claim(self, address: Address, now: float) -> None:
        self._unexpect(address)
        if is_stream(address) and not self._udp.has_stream(address):
            self._link.send(Lost(address))  # it ended before the claim came
            return
        path = FarPath(address, self, now)
        if not self._udp.claim(address, path, now):
            return
        before, self._held[address] = self._held.get(address), path
        if before is not None:
            self._displace(before)
        if self._udp.native is not None and not is_stream(address) and self._inlet.ours >= 0:
            path.native = self._udp.native.place(address, self._inlet.ours)

    def _displace(self, path: FarPath) -> None:
        native, path.native = path.native, None
        if native is not None and self._udp.native is not None:
            self._forwarded += native.passed
            self._dropped += native.dropped
            path.seen = max(path.seen, native.seen)
            self._udp.native.displace(native)

    def stream_ended(self, path: FarPath) -> None:
        if self._held.get(path.address) is path:
            del self._held[path.address]
            self._displace(path)
            self._link.send(Lost(path.address))

    def _expect(self, address: Address) -> None:
        if address in self._expected:
            return
        if len(self._expected) >= MAX_EXPECTED:
            self._unexpect(next(iter(self._expected)))
        self._expected[address] = None
        self._udp.expected[address] = self

    def _unexpect(self, address: Address) -> None:
        self._expected.pop(address, None)
        if self._udp.expected.get(address) is self:
            del self._udp.expected[address]

    def close(self) -> None:
        """The process is gone: nothing is for it any more."""
        for ufrag in list(self._ufrags):
            self._name(ufrag, mine=False)
        for address in list(self._expected):
            self._unexpect(address)
        held, self._held = self._held, {}
        for address, path in held.items():
            self._udp.release(address, path)
            self._displace(path)
        self._inlet.close()
