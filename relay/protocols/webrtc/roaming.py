"""A peer whose router gave it another address in mid-stream goes on before its next check.

What it sends comes from an address that no session knows, under an SSRC that one of them
does: a publisher's media by that of the track, a viewer's reports and feedback by that of
their sender, which SRTCP leaves in the clear. What passes that peer's SRTP is of the peer,
whoever sent it; so the address is asked by a check of ours, and only an answer moves the
sending side. A stranger gets no byte by this.

Browsers that only receive all report under one and the same SSRC. Which of many it is tells
the index of SRTCP, in the clear as well: it is a little above the last one of that peer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol
from weakref import ref

from relay.protocols.webrtc.stun import Address

AGAIN: Final = 0.05
"""Seconds between two looks at what comes from one address under one SSRC."""
FRESH: Final = 0.5
"""Seconds after which the peers' SSRCs are looked up anew."""
TRIES: Final = 500
"""Packets that are opened on trial in that time: what strangers may cost, about 2 ms."""
MAX_TRIES: Final = 64
"""Of one packet, for as many peers."""
NEAR: Final = 256
"""Indices of SRTCP: so many of a peer's last reports may have been lost on the way."""


class Roamer(Protocol):
    """What of a peer is needed.

    Attributes:
        heard_ssrc: of the last media packet that was authentic, 4 bytes.
        heard_rtcp: the last RTCP packet that was authentic, as it came: protected; its head and
            its end at least.
        rtcp_trailer: the bytes of it from the index on.
    """

    heard_ssrc: bytes
    rtcp_trailer: int

    @property
    def heard_rtcp(self) -> bytes: ...

    def roam(self, data: bytes, address: Address, now: float) -> bool:
        """Something under its SSRC has come from an unknown address: whether it is its own."""


class Roaming:
    def __init__(self, peers: Callable[[], Iterable[Roamer]]) -> None:
        self._peers = peers
        # Weakly: the index stands until the next stranger comes, a peer may end before.
        self._by_ssrc: dict[bytes, list[ref[Roamer]]] = {}
        self._seen: dict[tuple[bytes, Address], float] = {}
        self._tries = 0
        self._fresh_until = 0.0

    def stray(self, data: bytes, address: Address, now: float) -> None:
        """A datagram of a stranger that is no STUN."""
        if not 127 < data[0] < 192 or len(data) < 12:
            return
        rtcp = 191 < data[1] < 224
        if now >= self._fresh_until:
            self._refresh(now)
        ssrc = data[4:8] if rtcp else data[8:12]
        indexed = self._by_ssrc.get(ssrc)
        if indexed is None or self._tries >= TRIES:
            return
        if now - self._seen.get((ssrc, address), 0.0) < AGAIN:
            return
        self._seen[ssrc, address] = now
        peers = [peer for known in indexed if (peer := known()) is not None]
        if len(peers) > 1:
            peers = nearest(peers, data) if rtcp else peers[:MAX_TRIES]
        self._tries += 1
        for tried, peer in enumerate(peers):
            self._tries += tried > 0
            if peer.roam(data, address, now):
                return

    def _refresh(self, now: float) -> None:
        self._fresh_until = now + FRESH
        self._tries = 0
        self._seen.clear()
        found = self._by_ssrc = {}
        for peer in self._peers():
            if peer.heard_ssrc:
                found.setdefault(peer.heard_ssrc, []).append(ref(peer))
            if peer.heard_rtcp and (ssrc := peer.heard_rtcp[4:8]) != peer.heard_ssrc:
                found.setdefault(ssrc, []).append(ref(peer))


def nearest(peers: Iterable[Roamer], data: bytes) -> list[Roamer]:
    """Those whose last RTCP may have come shortly before this one, the likeliest first."""
    found = []
    for at, peer in enumerate(peers):
        place = peer.rtcp_trailer
        if not 0 < place <= min(len(data), len(peer.heard_rtcp)):
            continue
        ahead = _index(data, place) - _index(peer.heard_rtcp, place)
        if 0 < ahead <= NEAR:
            found.append((ahead, at, peer))
    return [peer for _, _, peer in sorted(found)[:MAX_TRIES]]


def _index(data: bytes, place: int) -> int:
    """Of SRTCP, 31 bits (RFC 3711 section 3.4); it never wraps."""
    start = len(data) - place
    return int.from_bytes(data[start : start + 4], "big") & 0x7FFFFFFF
