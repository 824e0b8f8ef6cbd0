"""A bad link under a real client: loss, jitter and reordering from a seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from relay.protocols.webrtc.peer import Peer


class BadLink:
    """What happens to datagrams of one direction.

    Args:
        loss: the share that is lost, retransmissions like any other.
        jitter: up to so many seconds late; who is later than the next one is overtaken.

    Attributes:
        passed, lost: datagrams of media so far.
    """

    def __init__(self, seed: int, *, loss: float, jitter: float) -> None:
        self._random = Random(seed)
        self._loss = loss
        self._jitter = jitter
        self.passed = 0
        self.lost = 0

    def carry(self, deliver: Callable[[], None]) -> None:
        if self._random.random() < self._loss:
            self.lost += 1
            return
        self.passed += 1
        delay = self._random.uniform(0, self._jitter)
        asyncio.get_running_loop().call_later(delay, deliver)


def is_media(data: bytes) -> bool:
    """SRTP or SRTCP, and neither STUN nor DTLS (RFC 7983)."""
    return 127 < data[0] < 192


def send_over(peer: Peer, link: BadLink) -> None:
    """All media that the connected peer sends from here on goes over the link."""
    transmit = peer.transmit

    def send(data: bytes) -> None:
        link.carry(lambda: transmit(data))

    peer.transmit = send


def receive_over(peer: Peer, link: BadLink) -> None:
    """All media that reaches the peer, by pure Python, from here on came over the link."""
    receive = peer.ice.on_datagram

    def arrive(data: bytes, path: object, now: float) -> None:
        if is_media(data):
            loop = asyncio.get_running_loop()
            link.carry(lambda: receive(data, path, loop.time()))  # type: ignore[arg-type]
        else:
            receive(data, path, now)  # type: ignore[arg-type]

    peer.ice.on_datagram = arrive
