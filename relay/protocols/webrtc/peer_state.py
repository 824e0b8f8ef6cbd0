"""How far a peer has come, and what is counted of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class PeerState(Enum):
    NEW = "new"
    CONNECTED = "connected"
    CLOSED = "closed"


PEER_STATES: Final = {
    PeerState.NEW: frozenset((PeerState.CONNECTED, PeerState.CLOSED)),
    PeerState.CONNECTED: frozenset((PeerState.CLOSED,)),
    PeerState.CLOSED: frozenset[PeerState](),
}


@dataclass(slots=True)
class PeerStatistics:
    unprotected: int = 0  # packets that passed SRTP
    refused: int = 0  # packets that did not
    limited: int = 0  # packets that nobody looked at: more than a peer may send
    early_dropped: int = 0  # media before the keys, over the bound
