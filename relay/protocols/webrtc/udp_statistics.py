"""What a UDP port counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class UdpStatistics:
    received: int = 0
    sent: int = 0
    strangers: int = 0  # dropped: no session knows the source, the name or the transaction
    malformed: int = 0  # dropped: of one that is known, and no STUN
    flooded: int = 0  # dropped: checks in a peer's name, more than any peer sends
    unsent: int = 0  # dropped: the socket was full, or the address cannot be reached
