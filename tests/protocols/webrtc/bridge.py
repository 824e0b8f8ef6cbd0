"""A firewall that lets no UDP through: a client of ours behind it reaches the server by TCP.

Stands for an active ICE-TCP candidate (RFC 6544) of the client: each connection of it is
an address of the client's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from relay.protocols.webrtc.framing import Deframer, frame
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peer import Peer
from relay.protocols.webrtc.peers import Peers


class Bridge(asyncio.DatagramProtocol):
    """Datagrams of the client on one side, a framed stream on the other.

    Attributes:
        deaf: what the server says is left unread from now on.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._client: Any = None
        self._inside: Any = None
        self._task: asyncio.Task[None] | None = None
        self.writer: asyncio.StreamWriter
        self.deaf = asyncio.Event()
        self.inward: tuple[str, int] = ("", 0)

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._inside, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        self.inward = self._inside.get_extra_info("sockname")
        await self.connect()

    async def connect(self) -> None:
        """A (new) connection; the one before ends without a word."""
        if self._task is not None:
            self.writer.transport.abort()
            await self._task
        reader, self.writer = await asyncio.open_connection(*self._server)
        self._task = asyncio.create_task(self._read(reader))

    def through(self, answer: str) -> str:
        """The answer as a client reads it that gets there by this bridge alone."""
        return detour(only_tcp(answer), self.inward)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        frames = Deframer()
        try:
            while not self.deaf.is_set() and (data := await reader.read(65536)):
                for datagram in frames.feed(data):
                    self._inside.sendto(datagram, self._client)
        except OSError:
            return

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._client = addr
        if not self.writer.is_closing():
            self.writer.write(frame(data))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.writer.transport.abort()
        self._inside.close()


def only_tcp(answer: str) -> str:
    """The answer without its UDP candidates."""
    lines = answer.split("\r\n")
    return "\r\n".join(x for x in lines if not x.startswith("a=candidate") or " tcp " in x)


def detour(answer: str, place: tuple[str, int]) -> str:
    """The answer with this place in each of its candidates, by UDP."""
    host, port = place
    return "\r\n".join(
        f"a=candidate:1 1 udp 1 {host} {port} typ host" if line.startswith("a=candidate") else line
        for line in answer.split("\r\n")
    )


@asynccontextmanager
async def behind_firewall(
    peers: Peers, mine: Peers, *, send: bool = True
) -> AsyncIterator[tuple[Bridge, Peer, Peer]]:
    """A client of ours that has TCP only; both ends are still NEW."""
    assert peers.tcp is not None
    bridge = Bridge((peers.udp.host, peers.tcp.port))
    await bridge.open()
    offering = Offering(mine, send=send)
    peer = await peers.answer(offering.text, receive=send)
    # To the client it looks like UDP: the bridge is the part that speaks TCP.
    offering.accept(bridge.through(peer.answer))
    try:
        yield bridge, offering.peer, peer
    finally:
        await bridge.close()
