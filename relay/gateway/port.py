"""What a gateway says of its UDP port: to its operator, and never once a packet."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Mapping
from typing import Final

from relay import metrics
from relay.protocols.webrtc.peers import DROPPED
from relay.protocols.webrtc.udp import BUFFER, UdpPort

log = logging.getLogger(__name__)

FLOOD: Final = 1000
"""Dropped datagrams of one kind in SPELL that are told of. Some come at any time: late ones of
peers that have left, and whatever searches networks."""

SPELL: Final = 60.0
"""Seconds; of each kind there is one line in them."""

WORDS: Final[Mapping[str, str]] = {
    "unknown": "of no peer",
    "malformed": "in a peer's name that are no STUN",
    "checks": "of STUN in peers' names, more than any peer sends",
    "dtls": "of DTLS, more than a handshake takes",
}


def tell_of_buffers(port: UdpPort) -> None:
    """Where the system granted less than a gateway with many viewers needs."""
    if min(buffers := port.buffers) < BUFFER:
        log.info(
            "the UDP port's buffers are %d and %d KiB, of %d asked for: enough for a desk; for"
            " many viewers raise net.core.rmem_max and net.core.wmem_max (sysctl)",
            *(size >> 10 for size in (*buffers, BUFFER)),
        )


class _Kind:
    """One reason to drop."""

    def __init__(self, name: str) -> None:
        self._words = WORDS[name]
        self._counter = metrics.DATAGRAMS_DROPPED.labels(name)
        self._count = 0
        self._since: float | None = None  # what is counted
        self._next = 0.0  # when a line may be written

    def add(self, count: int, port: int, now: float) -> None:
        self._counter.inc(count)
        if self._since is None or (now - self._since >= SPELL and self._count < FLOOD):
            self._since, self._count = now, 0
        self._count += count
        if self._count < FLOOD or now < self._next:
            return
        log.warning(
            "%d datagrams were dropped in %.0f s that are %s: they cost little, and nothing is"
            " to be done unless pictures suffer; “tcpdump -n udp port %d” shows whose they are,"
            " for a firewall to refuse",
            *(self._count, max(now - self._since, 1), self._words, port),
        )
        self._since, self._count, self._next = now, 0, now + SPELL


class Floods:
    """Counts what was dropped unread, and says so where that is much.

    Args:
        port: whose number is told.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._kinds = {name: _Kind(name) for name in DROPPED}
        self._before: dict[Hashable, Mapping[str, int]] = {}

    def look(self, dropped: Iterable[tuple[Hashable, Mapping[str, int]]], now: float) -> None:
        """To be called now and then.

        Args:
            dropped: by each process so far, with what it is known by.
            now: monotonic seconds.
        """
        found = dict(dropped)
        for name, kind in self._kinds.items():
            before = self._before
            come = sum(
                counts.get(name, 0) - before.get(process, {}).get(name, 0)
                for process, counts in found.items()
            )
            kind.add(come, self._port, now)
        self._before = found
