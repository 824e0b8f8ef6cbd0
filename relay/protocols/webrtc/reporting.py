"""Sender reports to the viewers of a rendition: one at once, then one a second each.

Those whose turn is at the same moment are served together from then on: of what is the same for
all of them there is one, and native code sends all their reports in a call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import inf
from typing import Any, Final

from relay.protocols.webrtc.egress_session import EgressSession
from relay.protocols.webrtc.native_fanout import NativeSender
from relay.protocols.webrtc.viewer import REPORTS_KEPT

REPORT_INTERVAL: Final = 1.0

ATTENDED: Final = 5.9
"""Seconds between two looks at what native code has kept: reports that tell of no loss."""


AT_ONCE: Final = 64
"""Viewers that are given the same turn at a time: others that came with them have the next one."""


class _Turn:
    """Who is reported to at the same moment.

    Attributes:
        sent: the reports that are known: the middle of their NTP time, and when they left.
        tracks: theirs for native code, None when they are to be gathered anew.
        owners: whose each of these is.
        left: how many had left the rendition when it was last looked who.
    """

    def __init__(self, due: float, left: int) -> None:
        self.due = due
        self.left = left
        self.attended = -inf
        self.members: list[EgressSession] = []
        self.sent: deque[tuple[int, float]] = deque(maxlen=REPORTS_KEPT)
        self.tracks: Any = None
        self.owners: list[EgressSession] = []

    def add(self, sessions: Iterable[EgressSession]) -> None:
        for session in sessions:
            session.viewer.reports = self.sent
            self.members.append(session)
            self.tracks = None

    def take(self, other: _Turn) -> None:
        self.sent.extend(other.sent)
        self.attended = min(self.attended, other.attended)
        self.add(other.members)


class Reporting:
    """
    Args:
        native: sends the reports to those that are not reached by TCP; None: Python does.
    """

    def __init__(self, native: NativeSender | None) -> None:
        self._native = native
        self._new: list[EgressSession] = []
        self._turns: list[_Turn] = []  # in the order in which they are due, a few in a second
        self._left = 0

    def add(self, session: EgressSession) -> None:
        self._new.append(session)

    def drop(self) -> None:
        """Somebody has left."""
        self._left += 1

    def clear(self) -> None:
        """All have left."""
        self._new.clear()
        self._turns.clear()

    @property
    def due_at(self) -> float:
        """When there is somebody to send to; -inf: now, inf: nobody."""
        if self._new:
            return -inf
        return self._turns[0].due if self._turns else inf

    def send(self, line: float, now: float, ntp: int) -> None:
        """Send those that are due.

        Args:
            line: seconds that the rendition's line shows.
        """
        turn = _Turn(now, self._left)
        if self._turns and self._turns[0].due <= now:
            turn = self._turns.pop(0)
        while self._turns and self._turns[0].due <= now:
            turn.take(self._turns.pop(0))
        if self._new:
            turn.add(self._new[:AT_ONCE])
            turn.attended = -inf
            del self._new[:AT_ONCE]
            turn.left = -1  # they may have left before their turn came
        if turn.left != self._left:
            turn.left, turn.tracks = self._left, None
            turn.members = [each for each in turn.members if not each.is_closed]
        if turn.members:
            self._serve(turn, line, now, ntp)
            turn.due = now + REPORT_INTERVAL
            self._turns.append(turn)

    def _serve(self, turn: _Turn, line: float, now: float, ntp: int) -> None:
        if now >= turn.attended + ATTENDED:
            turn.attended = now
            for session in turn.members:
                session.attend()
                session.viewer.trim()
        turn.sent.append((ntp >> 16 & 0xFFFFFFFF, now))
        native = self._native
        if native is None or native.streamed:
            for session in turn.members:
                if native is None or session.streamed:
                    session.report(ntp, line)
        if native is not None:
            if turn.tracks is None:
                owned = [(t, s) for s in turn.members for t in s.viewer.tracks]
                turn.tracks = native.gather([track for track, _ in owned])
                turn.owners = [session for _, session in owned]
            native.report(turn.tracks, ntp, line)  # passes over those that go by TCP
            for place in native.ask(turn.tracks, now):
                turn.owners[place].ask(now)
