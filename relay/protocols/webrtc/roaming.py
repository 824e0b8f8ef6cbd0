"""A peer whose router gave it another address in mid-stream goes on before its next check.

Its media comes from an address that no session knows, under an SSRC that one of them does.
What passes that one's SRTP is of the peer, whoever sent it; so the address is asked by a
check of ours, and only an answer moves the sending side. A stranger gets no byte by this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from relay.protocols.webrtc.stun import Address

AGAIN: Final = 0.05
"""Seconds between two tries for one peer: what strangers may cost by its SSRC."""
FRESH: Final = 0.5
"""Seconds after which the peers' SSRCs are looked up anew."""


class Roamer(Protocol):
    """What of a peer is needed.

    Attributes:
        heard_ssrc: of the last media packet that was authentic, 4 bytes.
    """

    heard_ssrc: bytes

    def roam(self, data: bytes, address: Address, now: float) -> None:
        """Media under its SSRC has come from an unknown address."""


class Roaming:
    def __init__(self, peers: Callable[[], Iterable[Roamer]]) -> None:
        self._peers = peers
        self._by_ssrc: dict[bytes, Roamer] = {}
        self._tried: dict[bytes, float] = {}
        self._fresh_until = 0.0

    def stray(self, data: bytes, address: Address, now: float) -> None:
        """A datagram of a stranger that is no STUN."""
        if not 127 < data[0] < 192 or len(data) < 12 or 191 < data[1] < 224:
            return
        if now >= self._fresh_until:
            self._fresh_until = now + FRESH
            self._by_ssrc = {peer.heard_ssrc: peer for peer in self._peers() if peer.heard_ssrc}
            self._tried.clear()
        ssrc = data[8:12]
        peer = self._by_ssrc.get(ssrc)
        if peer is not None and now - self._tried.get(ssrc, 0.0) >= AGAIN:
            self._tried[ssrc] = now
            peer.roam(data, address, now)
