"""How many checks in one name, or from one address, are read in a second. Pure.

Whoever has been answered has a name here, and whoever is connected an address. What comes is
counted by these, never by what a stranger makes up: so no flood fills a table, or empties it.
"""

from __future__ import annotations

from collections.abc import Container, Hashable
from typing import Final

from relay.protocols.webrtc import stun
from relay.protocols.webrtc.stun import Address
from relay.protocols.webrtc.udp_statistics import UdpStatistics

CHECKS_OF_A_NAME: Final = 3
"""In SPELL, from addresses that no session hears from: with the first good one the address is
known, and a client has few. By these a newcomer comes in amid a flood. Whoever has made offers for
names to flood in has had more of us by the offers."""

SPELL: Final = 5.0

CHECKS_A_SECOND: Final = 2000
"""Beyond those, in all names together: room for a crowd, and about a tenth of a core."""

CHECKS_OF_A_PEER: Final = 1000
"""From one address that a session hears from, answers to ours among them: a peer has a few a
second, and whoever floods in its name keeps a hundredth of a core busy with it."""


class Sources:
    """Counts by what sessions have, in windows of a second."""

    __slots__ = ("_counts", "_limit", "_until")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: dict[Hashable, int] = {}
        self._until = 0.0

    def take(self, key: Hashable, now: float) -> bool:
        """Whether one more under this key is to be looked at."""
        counts = self._counts
        if now >= self._until:
            counts.clear()
            self._until = now + 1
        count = counts.get(key, 0)
        if count >= self._limit:
            return False
        counts[key] = count + 1
        return True


class Strangers:
    """What is read of STUN from an address that no session hears from.

    Args:
        names: user names that are heard.
        transactions: of checks of ours.
        expected: addresses that answers to other processes may come from.
        familiar: limits what comes from those.
        counted: what is not read is counted there.
    """

    __slots__ = (
        "_counted",
        "_counts",
        "_expected",
        "_familiar",
        "_left",
        "_names",
        "_spell",
        "_transactions",
        "_until",
    )

    def __init__(
        self,
        names: Container[bytes],
        transactions: Container[bytes],
        expected: Container[Address],
        familiar: Sources,
        counted: UdpStatistics,
    ) -> None:
        self._names, self._transactions, self._expected = names, transactions, expected
        self._familiar = familiar
        self._counted = counted
        self._counts: dict[bytes, int] = {}
        self._left = 0
        self._until = self._spell = 0.0

    def __len__(self) -> int:
        """Names that are counted."""
        return len(self._counts)

    def admit(self, data: bytes, address: Address, now: float) -> bool:
        """Whether it may be somebody's, and is to be looked at."""
        if data[:2] != b"\0\1":
            # Nobody can guess the transaction of a check of ours.
            if data[8:20] in self._transactions:
                return True
            if address not in self._expected:
                return self._is_nobodys()
            return self._familiar.take(address, now) or self._is_too_much()
        name = stun.username(data).partition(b":")[0]
        if name not in self._names:
            return self._is_nobodys()
        counts = self._counts
        if now >= self._spell:
            counts.clear()
            self._spell = now + SPELL
        count = counts.get(name, 0)
        if count < CHECKS_OF_A_NAME:
            counts[name] = count + 1
            return True
        if now >= self._until:
            self._left = CHECKS_A_SECOND
            self._until = now + 1
        self._left -= 1
        return self._left >= 0 or self._is_too_much()

    def _is_nobodys(self) -> bool:
        self._counted.strangers += 1
        return False

    def _is_too_much(self) -> bool:
        self._counted.flooded += 1
        return False
