"""User names and passwords of an ICE session, from one restart to the next. Pure.

A restart gives both ends new ones; old and new are answered until the new ones are
nominated (RFC 9725 section 4.3.3).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

GENERATION_LIFE: Final = 30.0
"""Seconds that old credentials of ours are answered after the last request that named them."""

_MAX_THEIRS: Final = 4


def _nobody(name: bytes) -> None:
    """Who is told once the session is over."""


@dataclass(eq=False, slots=True)
class Credentials:
    """User name and password of one end, from one restart to the next.

    Attributes:
        number: grows with each restart of that end.
        used: ours only: the last authenticated request that named them.
    """

    number: int
    ufrag: str
    pwd: str
    used: float = 0.0

    @classmethod
    def fresh(cls, number: int, now: float) -> Credentials:
        return cls(number, secrets.token_hex(6), secrets.token_hex(16), now)


class Generations:
    """All credentials in use, of both ends.

    Args:
        add, drop: told of each user name of ours that is to be heard, and no longer.
    """

    def __init__(
        self,
        theirs: Credentials,
        add: Callable[[bytes], None],
        drop: Callable[[bytes], None],
        now: float,
    ) -> None:
        self._ours: list[Credentials] = []
        self._theirs = [theirs]
        self._add_name, self._drop_name = add, drop
        self._add(Credentials.fresh(0, now))

    @property
    def ours(self) -> Credentials:
        """The newest."""
        return self._ours[-1]

    @property
    def theirs(self) -> Credentials:
        """The newest."""
        return self._theirs[-1]

    @property
    def several(self) -> bool:
        """Whether old ones of ours are still in use."""
        return len(self._ours) > 1

    def renew(self, number: int, now: float) -> None:
        """Make new ones of ours; those in use go on until these are nominated."""
        if len(self._ours) > 1:  # of two restarts the last wins
            self._drop(self._ours[-1])
        self._add(Credentials.fresh(number, now))

    def set_theirs(self, ufrag: str, pwd: str) -> None:
        self._theirs.append(Credentials(self._theirs[-1].number + 1, ufrag, pwd))
        del self._theirs[:-_MAX_THEIRS]

    def named(self, username: bytes) -> tuple[Credentials, Credentials] | None:
        """Those of a request's USERNAME, "ours:theirs"; None where ours is unknown."""
        first, _, second = username.partition(b":")
        ours = next((c for c in self._ours if c.ufrag.encode() == first), None)
        if ours is None:
            return None
        theirs = next((c for c in self._theirs if c.ufrag.encode() == second), self._theirs[-1])
        return ours, theirs

    def nominated(self, ours: Credentials) -> None:
        """A nomination has named these: with the newest, all before them are over."""
        if ours is self._ours[-1]:
            for old in self._ours[:-1]:
                self._drop(old)

    def expire(self, now: float) -> None:
        for old in self._ours[:-1]:
            if now - max(old.used, self._ours[-1].used) > GENERATION_LIFE:
                self._drop(old)

    def close(self) -> None:
        """No name of ours is heard any more, and nobody is told of any."""
        for credentials in self._ours:
            self._drop_name(credentials.ufrag.encode())
        self._add_name = self._drop_name = _nobody

    def _add(self, credentials: Credentials) -> None:
        self._ours.append(credentials)
        self._add_name(credentials.ufrag.encode())

    def _drop(self, credentials: Credentials) -> None:
        self._ours.remove(credentials)
        self._drop_name(credentials.ufrag.encode())
