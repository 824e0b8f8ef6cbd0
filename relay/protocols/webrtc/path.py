"""The pieces of an ICE session: its remote addresses, its port. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from relay.protocols.webrtc.credentials import Credentials
from relay.protocols.webrtc.stun import Address

if TYPE_CHECKING:
    from relay.protocols.webrtc.ice import IceSession

SILENCE: Final = 2.5
"""Seconds without a sign of life after which a path may be left, or its address taken over."""

CONSENT_INTERVAL: Final = 5.0

TOLD: Final = 1000
"""Bytes that go to an address unasked, where an answer to our offer names it: some nine checks.
Whoever wrote that answer may have written a victim's address into it."""

NEVER: Final = float("inf")
_ANSWERS_A_SECOND: Final = 50.0
_MAX_TRANSACTIONS: Final = 64

CONSENT_LIFE: Final = 30.0
"""Seconds from an answer to a check until there must be another one (RFC 7675 section 5.1).

Each check may be answered for as long. Where a crowded machine lets datagrams wait for many
seconds, an answer is late each time: a shorter wait would take none of them.
"""
_HANDED_OVER: Final = 2 * CONSENT_INTERVAL
"""Seconds of a time-out below which Python asks: native code does it to the second."""
BACK: Final = 1.5 * CONSENT_INTERVAL
"""Seconds from an answer after which Python asks where native code should have: that does it
after six at most, and a second in which it has its turn."""
_UNSENT_RETRY: Final = 0.1
_RETRY: Final = 1.0
_LAST_RETRIES: Final = 0.5
"""Some forty tries in all, fewer than there may be transactions."""


def is_stream(address: Address) -> bool:
    """Whether it is the far end of a TCP connection: (host, port, "tcp"), or in the third place
    the address of ours, where there are several."""
    return len(address) == 3


def ignore(*args: object) -> None:
    """What is called when nobody is interested."""


class Port(Protocol):
    """What a session needs of the socket it shares."""

    def sendto(self, data: bytes, address: Address) -> bool: ...
    def add_ufrag(self, ufrag: bytes, session: IceSession) -> None: ...
    def drop_ufrag(self, ufrag: bytes) -> None: ...
    def add_transaction(self, transaction: bytes, session: IceSession) -> None: ...
    def drop_transaction(self, transaction: bytes) -> None: ...
    def claim(self, address: Address, path: Path, now: float) -> bool: ...
    def release(self, address: Address, path: Path) -> None: ...


@dataclass(eq=False, slots=True)
class Path:
    """One remote address of a session, and the address of ours that it writes to.

    Attributes:
        ours, theirs: the credentials in use on it. A client that has restarted may go on
            naming our old ones beside its new ones for as long as it likes.
        seen: the last authenticated sign of life; the owner of the media keys sets it
            too, at each packet that passed SRTP.
        answered: the last answer to a check of ours, None before the first. Only a path
            that has answered gets media after a move: its address is not made up.
        lost: it was a connection, and that has ended; or media has come from elsewhere since.
        native: what native code hears from there of a viewer, where it does (``native_viewer.py``).
        stream: of a publisher likewise (``native_receive.py``).
        credit: bytes that may yet go there, as long as it has not answered.
    """

    address: Address
    session: IceSession
    ours: Credentials
    theirs: Credentials
    seen: float
    priority: int = 0
    answered: float | None = None
    nominated: float | None = None
    lost: bool = False
    native: Any = None
    stream: Any = None
    credit: int = 0
    checked: float = -1e9
    tries: int = 0
    next_check: float = NEVER
    budget: float = _ANSWERS_A_SECOND
    budget_at: float = 0.0

    def renew(self, ours: Credentials, theirs: Credentials) -> bool:
        """Take newer credentials into use; whether they were newer."""
        newer = ours.number > self.ours.number or theirs.number > self.theirs.number
        older = ours.number < self.ours.number or theirs.number < self.theirs.number
        if older or not newer:
            return False
        self.ours, self.theirs, self.tries = ours, theirs, 0
        self.unsettle()
        return True

    def unsettle(self) -> None:
        """Credentials or roles are on the move: no check is answered natively for now."""
        if self.native is not None and self.native.name_length:
            self.native.name_length = 0
            if self.take_back():
                self.session.on_schedule(self.next_check)

    def hand_over(self, tie_breaker: int) -> None:
        """From now on native code sends the checks of ours as long as they are answered; about once
        a second it is to be told to (``NativeSender.ask``)."""
        native, timeout = self.native, self.session.consent_timeout
        if native.tie_breaker or native.asked or not native.name_length or timeout < _HANDED_OVER:
            return
        self.refresh()
        if not native.name_length or self.answered is None or self.next_check == NEVER:
            return
        native.tie_breaker = tie_breaker
        native.ask_at, native.ask_every = self.next_check, CONSENT_INTERVAL
        self.next_check = self.answered + BACK

    def take_back(self) -> bool:
        """Have no check of ours sent natively; whether any was."""
        native = self.native
        if native is None or not native.tie_breaker:
            return False
        native.tie_breaker, native.ask_every = 0, 0.0
        answered = self.answered or 0.0
        self.next_check = answered + consent_wait(self.session.consent_timeout)
        return True

    def refresh(self) -> None:
        """Take over what native code has heard meanwhile, and tell it what it is to know."""
        stream, native = self.stream, self.native
        if stream is not None and stream.heard > self.seen:
            self.seen, self.lost = stream.heard, False
        if native is None:
            return
        native.priority = self.priority
        if native.seen > self.seen:
            self.seen, self.lost = native.seen, False
        if native.checked > self.ours.used:
            self.ours.used = native.checked
        if native.nominated > (self.nominated or 0.0):
            self.nominated = native.nominated
        if self.session.controlling:
            self.unsettle()  # who leads is another question than the one that it answers
        if native.answered > (self.answered or 0.0):
            self.answered, self.tries = native.answered, 0
            self.session.end_transaction(bytes(native.transaction))
            timeout = self.session.consent_timeout
            self.next_check = self.answered + consent_wait(timeout)
            if native.tie_breaker and (native.ask_every or not native.asked):
                if not native.ask_every:
                    native.ask_at, native.ask_every = self.next_check, CONSENT_INTERVAL
                self.next_check = self.answered + BACK  # it asks; this is to look at it
        elif self.answered is not None:
            native.answered = self.answered

    def due(self, now: float) -> bool:
        """Whether a check of ours is to leave."""
        self.refresh()
        return self.next_check <= now

    def asks(self, transaction: bytes) -> None:
        """A check of ours leaves: native code is to know its answer, of whatever it says that it
        was well taken. The session knows it as long, for all other answers."""
        self.refresh()
        if self.native is not None and self.native.name_length:
            self.native.transaction, self.native.asked = transaction, 1

    def silent(self, now: float) -> bool:
        """Whether it may be left for one that lives."""
        self.refresh()
        return self.lost or now - self.seen > SILENCE

    def expired(self, now: float, consent_timeout: float) -> str | None:
        """Why the peer is to be given up, None while it lives.

        Any authenticated packet is a sign of life; beyond that, a peer that used to
        answer our checks and no longer does has withdrawn its consent (RFC 7675).
        """
        if now - self.seen > consent_timeout:
            return "no sign of life"
        if self.answered is not None and now - self.answered > CONSENT_LIFE:
            return "consent expired"
        return None

    def grant(self, received: int) -> None:
        """So many bytes have come from there: three times as many may go back.

        Whoever may speak to us could else have a victim, whose address it writes on its
        datagrams, get our checks and the flights of a handshake again and again (as RFC 9000
        section 8.1 has it for QUIC). An answer to a check of ours says that the address is true.
        """
        if self.answered is None:
            self.credit += 3 * received

    def may_send(self, size: int) -> bool:
        """Take a datagram, of whatever kind, out of the credit."""
        if self.answered is not None or is_stream(self.address):
            return True
        if size > self.credit:
            return False
        self.credit -= size
        return True

    def may_answer(self, size: int, now: float) -> bool:
        """Take one answer, to a check of ``size`` bytes, out of this source's budget."""
        self.grant(size)
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
    key: bytes
    sent: float


def overdue(transactions: Mapping[bytes, Transaction], now: float) -> list[bytes]:
    """Those that nobody will answer any more, and the oldest where there are too many."""
    late = [key for key, entry in transactions.items() if now - entry.sent > CONSENT_LIFE]
    surplus = len(transactions) - len(late) - _MAX_TRANSACTIONS
    return late + [key for key in transactions if key not in late][: max(0, surplus)]


def retry_wait(unanswered: float, regular: float, *, sent: bool) -> float:
    """Seconds to the next check of a path that has answered before.

    Args:
        unanswered: seconds since it last did.
        regular: seconds to the next one where there is no need for more.
        sent: whether the one before left. If not, the socket was full: it has room again soon.
    """
    if not sent:
        return _UNSENT_RETRY
    if unanswered < 1.5 * regular:
        return regular  # it has answered the one before, most likely: so it will this one
    # Never in step with what fills the sockets: pictures, or a process that runs by turns.
    retry = _RETRY if unanswered < CONSENT_LIFE / 2 else _LAST_RETRIES
    return retry * random.uniform(0.7, 1.1)


def consent_wait(timeout: float) -> float:
    """4 to 6 seconds (RFC 7675 section 5.1), less than half of a short time-out."""
    interval = min(CONSENT_INTERVAL, 0.4 * timeout)
    return max(interval * random.uniform(0.8, 1.2), min(4.0, interval))
