"""A translating router on loopback between a client of ours and a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from relay.protocols.webrtc.egress import Egress
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peer import Peer
from relay.protocols.webrtc.peers import Peers


class _End(asyncio.DatagramProtocol):
    def __init__(self, receive: Callable[[bytes, Any], None]) -> None:
        self.receive = receive

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.receive(data, addr)


class Nat:
    """Forwards datagrams; the outward port can be changed in mid-stream.

    Attributes:
        hold: datagrams from the client for which this is true wait for ``release``.
        inward: the address that the client believes the server to have.
        told: called with what comes from the server.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._client: Any = None
        self._inside: asyncio.DatagramTransport
        self._outside: asyncio.DatagramTransport
        self._held: list[bytes] = []
        self._closing: list[asyncio.DatagramTransport] = []
        self.hold: Callable[[bytes], bool] = lambda data: False
        self.inward: tuple[str, int] = ("", 0)
        self.told: Callable[[bytes], None] = lambda data: None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._inside, _ = await loop.create_datagram_endpoint(
            lambda: _End(self._from_client), local_addr=("127.0.0.1", 0)
        )
        self.inward = self._inside.get_extra_info("sockname")
        await self.rebind()

    async def rebind(self) -> tuple[str, int]:
        """Use another outward port from now on; the old one is deaf."""
        self._outside, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _End(self._from_server), local_addr=("127.0.0.1", 0)
        )
        for old in self._closing:
            old.close()
        self._closing.append(self._outside)
        outward: tuple[str, int] = self._outside.get_extra_info("sockname")
        return outward

    def _from_client(self, data: bytes, source: Any) -> None:
        self._client = source
        if self.hold(data):
            self._held.append(data)
        else:
            self._outside.sendto(data, self._server)

    def _from_server(self, data: bytes, source: Any) -> None:
        self.told(data)
        if self._client is not None:
            self._inside.sendto(data, self._client)

    def release(self) -> None:
        self.hold = lambda data: False
        for data in self._held:
            self._outside.sendto(data, self._server)
        self._held.clear()

    def forge(self, data: bytes) -> None:
        """A datagram to the server that the client did not send, from its address."""
        self._outside.sendto(data, self._server)

    def close(self) -> None:
        self._inside.close()
        for transport in self._closing:
            transport.close()


@asynccontextmanager
async def between(
    peers: Peers,
    mine: Peers,
    *,
    send: bool = True,
    setup: str = "actpass",
    egress: Egress | None = None,
) -> AsyncIterator[tuple[Nat, Peer, Peer]]:
    """A router with a client of ours behind it; both ends are still NEW.

    Args:
        egress: of a viewer (not ``send``): who answers it, by its rendition "show".
    """
    nat = Nat((peers.udp.host, peers.udp.port))
    await nat.open()
    offering = Offering(mine, send=send)
    offer = offering.text.replace("a=setup:actpass", f"a=setup:{setup}")
    if egress is None:
        peer = await peers.answer(offer, receive=send)
    else:
        peer = (await egress.answer("show", offer)).peer
    there = f"{peers.udp.host} {peers.udp.port} typ"
    offering.accept(peer.answer.replace(there, f"{nat.inward[0]} {nat.inward[1]} typ"))
    try:
        yield nat, offering.peer, peer
    finally:
        nat.close()
