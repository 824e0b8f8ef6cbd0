"""The WHIP and WHEP sessions of a gateway by their secrets, and why those that ended did."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Final

from relay.errors import NotFound
from relay.gateway.path import Path
from relay.protocols.webrtc.ingest import IngestSession
from relay.protocols.webrtc.processes.far_publisher import FarPublisher
from relay.protocols.webrtc.processes.session import ServedSession
from relay.protocols.webrtc.session import short

ENDINGS_KEPT: Final = 4096
"""Sessions of stopped streams, and others that ended, whose clients may still ask why: more than
one process serves, which takes all of its viewers along."""

LAST_WORDS: Final = 0.6
"""Seconds in which clients may ask why a gateway stops: ``relay up`` waits for it hardly longer."""

PUBLISHERS: Final = (IngestSession, FarPublisher)
ENDED_BY_VIEWER: Final = "ended by the viewer"
ENDED_BY_OPERATOR: Final = "ended by the operator"


class Endings(dict[str, str]):
    """Why sessions ended, by their secrets; the oldest make room."""

    def __setitem__(self, key: str, why: str) -> None:
        if len(self) >= ENDINGS_KEPT and key not in self:
            del self[next(iter(self))]
        super().__setitem__(key, why)


class Sessions:
    """Publishers' and viewers' sessions, each with the path that it is of."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[ServedSession, Path]] = {}
        self._stopped = Endings()
        self._over = Endings()
        self._asked = 0

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def add(self, session: ServedSession, path: Path) -> None:
        self._known[session.id] = (session, path)

    def find(self, session_id: str) -> ServedSession:
        """
        Raises:
            NotFound: there is none, or it ended; with code ``stream_stopped`` when it
                published a stream that was stopped here, so that it does not come back,
                and with ``session_ended`` and the reason when it ended otherwise.
        """
        self._asked += 1
        if (why := self._stopped.get(session_id)) is not None:
            raise NotFound(why, code="stream_stopped")
        found = self._known.get(session_id)
        if found is not None and not found[0].is_closed:
            return found[0]
        why = found[0].close_reason if found else self._over.get(session_id)
        if why is not None:
            raise NotFound(f"the session has ended: {why}", code="session_ended")
        raise NotFound("no such session", code="session_not_found")

    def take(self, session_id: str) -> ServedSession:
        """``find`` it and forget it, but that its client ends it. Raises NotFound likewise."""
        session = self.find(session_id)
        del self._known[session_id]
        if not isinstance(session, PUBLISHERS):
            self._over[session_id] = ENDED_BY_VIEWER
        return session

    def viewer(self, shown: str) -> ServedSession:
        """The viewer of an id as lists show it, or of a secret; raises NotFound."""
        for key, (session, _) in self._known.items():
            is_viewer = not isinstance(session, PUBLISHERS)
            if shown in (short(key), key) and is_viewer and not session.is_closed:
                return session
        raise NotFound(f"no viewer “{shown}”", code="viewer_not_found")

    def sweep(self) -> None:
        """Let go of those that ended, and keep why."""
        for key, (session, _) in list(self._known.items()):
            if session.is_closed:
                del self._known[key]
                self._over[key] = session.close_reason

    def keep_away(self, path: Path, reason: str) -> None:
        """Whoever publishes on this path is told why it ended, when it asks."""
        for key, (session, of) in self._known.items():
            if of is path and isinstance(session, PUBLISHERS) and not session.is_closed:
                self._stopped[key] = reason

    async def questions(self, quiet: float) -> None:
        """Where there is anybody to ask, wait until nobody has asked for a session in ``quiet``
        seconds, or for LAST_WORDS."""
        until, before = time.monotonic() + LAST_WORDS, -1
        while self._known and before != self._asked and time.monotonic() < until:
            before = self._asked
            await asyncio.sleep(quiet)

    def clear(self) -> None:
        self._known.clear()
