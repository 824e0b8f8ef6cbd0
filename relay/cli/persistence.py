"""What a connection's end means to a client: over, or to be tried again, and when. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relay.errors import PeerError, PeerRefused
from relay.protocols.webrtc.ice import REFUSED

WAITS: Final = (0.5, 1.0, 2.0)
"""Seconds before each try, the last one again and again."""
TRIED_FOR: Final = 60.0
"""Seconds without a connection after which it is given up."""
STEADY: Final = 10.0
"""Seconds of a connection after which its end is the first one again."""

PASSING: Final = (
    "the gateway is going away",
    "no sign of life",
    "consent expired",
    "the process that served it was lost",
)
"""Reasons of a gateway of ours that say nothing against coming back."""
HALF_WAY: Final = "not connected: "
"""Before why a session ended that was answered and had not come in (``client.py``)."""
FOR_NOW: Final = frozenset({408, 409, 425, 429})
"""Refusals below 500 that pass: a name that the lost connection still holds, haste."""


def is_final(word: str | None) -> bool:
    """
    Args:
        word: why the gateway ended the session, by its own account; None where it gives none.
    """
    return word is not None and not word.startswith(PASSING)


def passes(error: PeerError) -> bool:
    """Whether an offer that failed so may do a little later."""
    if error.code == "tls_untrusted":
        return False
    if not isinstance(error, PeerRefused):
        return True
    status = str(error).partition(":")[0]
    return not status.isdecimal() or int(status) >= 500 or int(status) in FOR_NOW


def put_off(error: Exception) -> bool:
    """Whether a first offer that failed so is worth another one: a gateway is there, and it said
    nothing final. Of one that is not there, or not to be reached, another tells nothing new."""
    if isinstance(error, PeerRefused):
        return passes(error)
    words = str(error)
    return words.startswith(HALF_WAY) and words[len(HALF_WAY) :].startswith((*PASSING, REFUSED))


class Persistence:
    """How long to wait before the next try, across the ends of several connections."""

    def __init__(self, now: float) -> None:
        self._waits = self._fresh()
        self._connected: float | None = now
        self._since = now

    @staticmethod
    def _fresh() -> Iterator[float]:
        yield from WAITS
        while True:
            yield WAITS[-1]

    def connected(self, now: float) -> None:
        self._connected = now

    def wait(self, now: float) -> float | None:
        """Seconds until the next try, after an end or a failed try at ``now``; None: no more."""
        if self._connected is not None and now - self._connected >= STEADY:
            self._waits, self._since = self._fresh(), now
        self._connected = None
        return next(self._waits) if now - self._since < TRIED_FOR else None
