"""The pieces of an ICE session: its credentials, its remote addresses, its port. Pure."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from relay.protocols.webrtc.stun import Address

if TYPE_CHECKING:
    from relay.protocols.webrtc.ice import IceSession

SILENCE: Final = 2.5
"""Seconds without a sign of life after which a path may be left, or its address taken over."""

NEVER: Final = float("inf")
_ANSWERS_A_SECOND: Final = 50.0


class Port(Protocol):
    """What a session needs of the socket it shares."""

    def sendto(self, data: bytes, address: Address) -> None: ...
    def add_ufrag(self, ufrag: bytes, session: IceSession) -> None: ...
    def drop_ufrag(self, ufrag: bytes) -> None: ...
    def add_transaction(self, transaction: bytes, session: IceSession) -> None: ...
    def drop_transaction(self, transaction: bytes) -> None: ...
    def claim(self, address: Address, path: Path, now: float) -> bool: ...
    def release(self, address: Address, path: Path) -> None: ...


@dataclass(eq=False, slots=True)
class Generation:
    """The credentials of both ends between two restarts."""

    ufrag: str
    pwd: str
    remote_ufrag: str
    remote_pwd: str
    used: float

    @classmethod
    def fresh(cls, remote_ufrag: str, remote_pwd: str, now: float) -> Generation:
        return cls(secrets.token_hex(6), secrets.token_hex(16), remote_ufrag, remote_pwd, now)


@dataclass(eq=False, slots=True)
class Path:
    """One remote address of a session.

    Attributes:
        seen: the last authenticated sign of life; the owner of the media keys sets it
            too, at each packet that passed SRTP.
        answered: the last answer to a check of ours, None before the first. Only a path
            that has answered gets media after a move: its address is not made up.
    """

    address: Address
    session: IceSession
    generation: Generation
    seen: float
    priority: int = 0
    answered: float | None = None
    nominated: float | None = None
    checked: float = -1e9
    tries: int = 0
    next_check: float = NEVER
    budget: float = _ANSWERS_A_SECOND
    budget_at: float = 0.0

    def may_answer(self, now: float) -> bool:
        """Take one answer out of this source's budget."""
        refill = (now - self.budget_at) * _ANSWERS_A_SECOND
        self.budget = min(_ANSWERS_A_SECOND, self.budget + max(0.0, refill))
        self.budget_at = now
        if self.budget < 1:
            return False
        self.budget -= 1
        return True


@dataclass(slots=True)
class IceStatistics:
    answered: int = 0
    refused: int = 0  # wrong integrity
    limited: int = 0  # over a budget
    moves: int = 0
    generations: int = 1


@dataclass(frozen=True, slots=True)
class Transaction:
    """A check of ours that is not yet answered."""

    path: Path
    generation: Generation
    sent: float
