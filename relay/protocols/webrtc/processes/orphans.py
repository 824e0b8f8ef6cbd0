"""Viewers whose process is lost: told so at once, and whoever has not heard it when it asks.

Who was connected gets the goodbye that its process left for it. Who was half-way in has no keys
yet: an alert in the clear ends its handshake, as any handshake. Both are said again to whoever
goes on sending. Checks are refused in the name of the session's password, which the answer to its
offer told; no other end takes a refusal from anybody else. What goes to an address is bounded: a
check in a viewer's name has come from there, and some words more are all that it gets.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from relay.protocols.webrtc import stun
from relay.protocols.webrtc.path import is_stream
from relay.protocols.webrtc.processes.far import Far
from relay.protocols.webrtc.processes.session import FarSession
from relay.protocols.webrtc.stun import Address, Message
from relay.protocols.webrtc.udp import UdpPort

LINGER: Final = 30.0
"""Seconds: after that nobody asks any more."""
MAX_NAMES: Final = 4096
MAX_ADDRESSES: Final = 4096
MAX_TOLD: Final = 5
"""How often a viewer is told."""
SPACING: Final = 0.2
"""Seconds between two of these."""

ALERT: Final = b"\x15\xfe\xfd\0\0\0\0\0\x10\0\0\0\2\2\x50"
"""DTLS 1.2, fatal, internal_error, in the clear (RFC 6347 section 4.1); with a record number that
no handshake comes to, so that nobody takes it for a repetition."""


@dataclass(slots=True)
class _Orphan:
    """A ``Holder`` of an address, which gives way to everybody."""

    session: Orphans
    address: Address
    datagrams: list[bytes]
    until: float
    told: float
    seen: float = float("-inf")
    lost: bool = True
    times: int = 1


class Orphans:
    """All of a gateway. To the port it is one more listener."""

    def __init__(self, udp: UdpPort) -> None:
        self._udp = udp
        self._names: dict[bytes, tuple[bytes, float]] = {}
        self._held: dict[Address, _Orphan] = {}
        self._timer: asyncio.TimerHandle | None = None

    def adopt(self, sessions: Iterable[FarSession], far: Far) -> None:
        """Tell those of a lost process, and take over the names and addresses that were its own."""
        now = time.monotonic()
        words = {address: [ALERT] for address in far.addresses}
        names: list[tuple[str, str]] = []
        for session in sessions:
            address, datagrams = session.farewell
            if datagrams:
                words[address] = datagrams
            names += session.credentials
        for address, datagrams in words.items():
            for datagram in datagrams:
                self._udp.sendto(datagram, address)
        far.close()
        until = now + LINGER
        for name, password in names[-MAX_NAMES:]:
            self._names[name.encode()] = (password.encode(), until)
            self._udp.add_ufrag(name.encode(), self)
        for address, datagrams in words.items():
            orphan = _Orphan(self, address, datagrams, until, now)
            if not is_stream(address) and self._udp.claim(address, orphan, now):
                self._held[address] = orphan
        while len(self._names) > MAX_NAMES:
            self._forget_name(next(iter(self._names)))
        while len(self._held) > MAX_ADDRESSES:
            self._forget(next(iter(self._held)))
        if self._timer is None and (self._names or self._held):
            self._timer = asyncio.get_running_loop().call_later(LINGER, self._expire)

    # -- what the port hears

    def on_datagram(self, data: bytes, path: _Orphan | Address, now: float) -> None:
        if not isinstance(path, _Orphan) or path.times >= MAX_TOLD or now < path.told + SPACING:
            return
        if data[0] != ALERT[0]:  # who says goodbye itself knows
            path.times, path.told = path.times + 1, now
            for datagram in path.datagrams:
                self._udp.sendto(datagram, path.address)

    def request(self, message: Message, address: Address, now: float) -> None:
        name = message.attributes[stun.USERNAME].partition(b":")[0]
        password, _ = self._names[name]
        if message.integrity_holds(password):
            # 400 ends a check for good (RFC 8489 section 6.3.4); browsers try again after a 401.
            refusal = stun.error(message, 400, "Lost", password)
            if len(refusal) <= len(message.raw):
                self._udp.sendto(refusal, address)

    def response(self, message: Message, address: Address, now: float) -> None:
        """To a check that the process has sent."""

    # -- time

    def _expire(self) -> None:
        now = time.monotonic()
        for name in [name for name, (_, until) in self._names.items() if until <= now]:
            self._forget_name(name)
        for address in [at for at, orphan in self._held.items() if orphan.until <= now]:
            self._forget(address)
        self._timer = None
        left = [until for _, until in self._names.values()]
        left += [orphan.until for orphan in self._held.values()]
        if left:
            self._timer = asyncio.get_running_loop().call_later(min(left) - now, self._expire)

    def _forget_name(self, name: bytes) -> None:
        del self._names[name]
        self._udp.drop_ufrag(name)

    def _forget(self, address: Address) -> None:
        self._udp.release(address, self._held.pop(address))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for name in list(self._names):
            self._forget_name(name)
        for address in list(self._held):
            self._forget(address)
