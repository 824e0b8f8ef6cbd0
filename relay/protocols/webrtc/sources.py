"""How many checks of one host, or in one peer's name, are read in a second. Pure."""

from __future__ import annotations

import socket
from collections.abc import Hashable
from functools import lru_cache
from typing import Final

CHECKS_A_SECOND: Final = 2000
"""Of one host, without those from addresses that sessions hear from: room for a crowd that
joins from behind one translating router, and about a hundredth of a core."""

CHECKS_OF_A_PEER: Final = 1000
"""From one address that a session hears from, answers to ours among them: a peer has a few a
second, and whoever floods in its name keeps a hundredth of a core busy with it."""

MAX_HOSTS: Final = 4096


class Sources:
    """Counts by host, or by address, in windows of a second.

    When there are more hosts than the table holds (made-up sources) it begins anew: the
    limit is then wider than said, the memory never.
    """

    __slots__ = ("_counts", "_limit", "_until")

    def __init__(self, limit: int = CHECKS_A_SECOND) -> None:
        self._limit = limit
        self._counts: dict[Hashable, int] = {}
        self._until = 0.0

    def __len__(self) -> int:
        return len(self._counts)

    def admit(self, host: str, now: float) -> bool:
        """Whether one more from this host is to be looked at."""
        return self.take(network_of(host), now)

    def take(self, key: Hashable, now: float) -> bool:
        """The same of whatever ``key`` stands for."""
        counts = self._counts
        if now >= self._until or len(counts) >= MAX_HOSTS:
            counts.clear()
            self._until = now + 1
        count = counts.get(key, 0)
        if count >= self._limit:
            return False
        counts[key] = count + 1
        return True


@lru_cache(maxsize=4096)
def network_of(host: str) -> bytes:
    """An IPv4 address, also when it is told as IPv6; the /64 of an IPv6 address."""
    if ":" not in host:
        return socket.inet_aton(host)
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return packed[12:] if packed.startswith(bytes(10) + b"\xff\xff") else packed[:8]
