"""How packets come to a session: by Python alone, or through the native part."""

from __future__ import annotations

import contextlib
import socket
from types import SimpleNamespace
from typing import Any, cast

from relay.protocols.webrtc import native_receive
from relay.protocols.webrtc.credentials import Credentials
from relay.protocols.webrtc.ice import IceSession
from relay.protocols.webrtc.native_receive import NativeReceiver
from relay.protocols.webrtc.path import Path, ignore
from relay.protocols.webrtc.stun import Address
from tests.protocols.webrtc.fake_peer import FakePeer


class Inlet:
    """Python does all of it."""

    def admit(self, peer: FakePeer) -> None:
        """From now on its packets may come."""

    def give(self, peer: FakePeer, packets: list[bytes], now: float) -> None:
        """They come at the same time."""
        for packet in packets:
            peer.on_rtp(packet, now)

    def close(self) -> None:
        """Nothing is held."""


class NativeInlet(Inlet):
    """They come through a UDP socket of each peer's; "SRTP" changes nothing.

    Attributes:
        raised: datagrams that were not the common case.
        now: when it is, for ``read``.
        opened: packets that the native part opened.
        authentic: the first byte of the payload of a packet that does not pass, or None.
        unsealed: what "SRTCP" says of each packet of ours; 0: good.
    """

    def __init__(self) -> None:
        found = native_receive._library()
        assert found is not None, "the native part was not built"
        self.raised = self.opened = self.unsealed = 0
        self.forged: int | None = None
        self._ffi = found[0]
        self._callback = self._ffi.callback("int(void *, void *, int *)", self._unprotect)
        self._into = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._into.bind(("127.0.0.1", 0))
        self._into.setblocking(False)
        door = int(self._ffi.cast("uintptr_t", self._callback))
        self._seals = self._ffi.callback("int(void *, void *, int *)", lambda *_: self.unsealed)
        seals = int(self._ffi.cast("uintptr_t", self._seals))
        self.receiver = NativeReceiver(found, self._into.fileno(), door, None, seals)
        self.now = 0.0
        self.read = self.receiver.reader(self._datagram, lambda: self.now)
        self._sockets: dict[int, socket.socket] = {}
        self._peers: dict[Address, FakePeer] = {}

    def _unprotect(self, context: Any, packet: Any, length: Any) -> int:
        self.opened += 1
        size = length[0]
        last = self._ffi.cast("uint8_t *", packet)[size - 1]
        return 7 if last == self.forged else 0

    def admit(self, peer: FakePeer) -> None:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("127.0.0.1", 0))
        self._sockets[id(peer)] = made
        address = made.getsockname()
        self._peers[address] = peer
        peer.native = self.receiver
        ours, theirs = Credentials(0, "ours", "password"), Credentials(0, "theirs", "secret")
        session = SimpleNamespace(
            controlling=False, consent_timeout=10, end_transaction=ignore, on_schedule=ignore
        )
        peer.heard = Path(address, cast("IceSession", session), ours, theirs, 0.0)

    def told(self, peer: FakePeer) -> list[bytes]:
        """What it was sent natively since the last call."""
        came, way = [], self._sockets[id(peer)]
        way.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                came.append(way.recv(2048))
        return came

    def give(self, peer: FakePeer, packets: list[bytes], now: float) -> None:
        for at in range(0, len(packets), 50):
            for packet in packets[at : at + 50]:
                self._sockets[id(peer)].sendto(packet, self._into.getsockname())
            self.now = now
            self.read()

    def _datagram(self, data: bytes, address: Address, now: float) -> None:
        self.raised += 1
        self._peers[address].on_rtp(data, now)

    def close(self) -> None:
        for made in self._sockets.values():
            made.close()
        self._into.close()
