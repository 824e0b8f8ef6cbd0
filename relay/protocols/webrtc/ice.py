"""One ICE session (RFC 8445, 7675) on a port that many sessions share. No socket, no clock.

The server side is controlled and full: it answers every authenticated check, and sends a
check of its own right behind the first answer, since agents of the pion family nominate
at once then. It sends nothing to candidates it was only told of: a client that can reach
us is seen as peer-reflexive, and nobody can make us knock at third parties.
The controlling side (our own clients) checks the candidates of the answer and nominates
the first that answers.

A *path* is a remote address that has passed an authenticated check.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from relay.protocols.webrtc import stun
from relay.protocols.webrtc.credentials import GENERATION_LIFE, Credentials, Generations
from relay.protocols.webrtc.path import (
    CONSENT_INTERVAL,
    CONSENT_LIFE,
    NEVER,
    SILENCE,
    TOLD,
    IceStatistics,
    Path,
    Port,
    Transaction,
    consent_wait,
    ignore,
    overdue,
    retry_wait,
)
from relay.protocols.webrtc.stun import Address, Message

MAX_PATHS: Final = 16
_NOMINATION_HOLD: Final = 1.0
_CHECK_DELAYS: Final = (0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0)
_CHECK_SPACING: Final = 0.05
_CANDIDATE_SPACING: Final = 0.02
REFUSED: Final = "the other end does not know it any more"
_PRFLX_PRIORITY: Final = (110 << 24) + (65535 << 8) + 255


@dataclass(eq=False, slots=True)
class IceSession:
    """The ICE side of one peer.

    Attributes:
        controlling: our role; a conflict may turn it.
        quiet: hold checks of our own back (some clients break when a STUN request
            arrives during their DTLS handshake, and nominate without it).
        settled: a flight of a handshake has left, or media flows; from now on a path is moved
            to only once it has answered a check of ours: no address is led to that is made up.
        refused: the other end has said, in its password's name, that it takes no check of ours.
        on_datagram: gets all that is not STUN and comes from a path.
        on_selected: the sending path was chosen or changed.
        on_answered: a path has answered a check of ours for the first time: it is no made-up
            address, and whatever was held back may go there.
        on_schedule: a ``tick`` is wanted at this time, earlier than the last one said.
    """

    port: Port
    controlling: bool
    consent_timeout: float
    now: float
    remote_ufrag: str = ""
    remote_pwd: str = ""
    on_datagram: Callable[[bytes, Path, float], None] = ignore
    on_selected: Callable[[Path], None] = ignore
    on_answered: Callable[[Path], None] = ignore
    on_schedule: Callable[[float], None] = ignore
    quiet: bool = False
    settled: bool = False
    refused: bool = False
    selected: Path | None = None
    statistics: IceStatistics = field(default_factory=IceStatistics)
    credentials: Generations = field(init=False)
    _paths: dict[Address, Path] = field(default_factory=dict)
    _transactions: dict[bytes, Transaction] = field(default_factory=dict)
    tie_breaker: int = field(default_factory=lambda: secrets.randbits(64))
    _closed: bool = False

    def __post_init__(self) -> None:
        self.credentials = Generations(
            Credentials(0, self.remote_ufrag, self.remote_pwd),
            lambda name: self.port.add_ufrag(name, self),
            self.port.drop_ufrag,
            self.now,
        )

    # -- credentials -------------------------------------------------------------------

    @property
    def ufrag(self) -> str:
        """Ours, the newest."""
        return self.credentials.ours.ufrag

    @property
    def pwd(self) -> str:
        return self.credentials.ours.pwd

    @property
    def remote(self) -> Credentials:
        """Theirs, the newest."""
        return self.credentials.theirs

    def restart(self, remote_ufrag: str, remote_pwd: str, now: float) -> tuple[str, str]:
        """Answer a restart of theirs; returns our new user name and password."""
        self.set_remote(remote_ufrag, remote_pwd)
        return self.renew(now)

    def renew(self, now: float) -> tuple[str, str]:
        """Make new credentials of ours; those in use go on until these are nominated."""
        self.statistics.generations += 1
        self.credentials.renew(self.statistics.generations, now)
        self.on_schedule(now + GENERATION_LIFE)
        return self.ufrag, self.pwd

    def set_remote(self, ufrag: str, pwd: str) -> None:
        """Their newest credentials; the controlling side learns them from an answer."""
        self.credentials.set_theirs(ufrag, pwd)

    def establish(self, now: float) -> None:
        """Media flows; checks held back so far go out."""
        self.settled, self.quiet = True, False
        path = self.selected
        if path is not None and path.answered is None:
            path.next_check = now
            self.on_schedule(now)

    def check_addresses(self, addresses: Iterable[Address], now: float) -> None:
        """Send checks to these addresses, best first (controlling side).

        Also to those that checked us before their answer came: until now their password
        was not known.
        """
        ours, theirs = self.credentials.ours, self.credentials.theirs
        for address in addresses:
            if address not in self._paths and len(self._paths) < MAX_PATHS:
                self._paths[address] = Path(address, self, ours, theirs, now, credit=TOLD)
        for index, path in enumerate(self._paths.values()):
            path.renew(ours, theirs)
            if path.answered is None:
                path.next_check = now + index * _CANDIDATE_SPACING
        self.on_schedule(now)

    # -- what arrives ------------------------------------------------------------------

    def request(self, message: Message, address: Address, now: float) -> None:
        """A Binding request whose USERNAME begins with one of our user names."""
        named = self.credentials.named(message.attributes[stun.USERNAME])
        if named is None:
            return
        ours, theirs = named
        key = ours.pwd.encode()
        if not message.integrity_holds(key):
            self.statistics.refused += 1
            return
        path = self._path(address, ours, theirs, now)
        if path is None or not path.may_answer(len(message.raw), now):
            self.statistics.limited += 1
            return
        if message.unknown_required():
            self._answer(path, message, stun.error(message, 420, "Unknown Attribute", key))
            return
        if self._role_conflict(message):
            self._answer(path, message, stun.error(message, 487, "Role Conflict", key))
            return
        self._answer(path, message, stun.success(message, address, key))
        self.statistics.answered += 1
        if not self.port.claim(address, path, now):
            return  # in use by another session: answered, and no more
        self._heard(path, ours, theirs, message, now)

    def _path(
        self, address: Address, ours: Credentials, theirs: Credentials, now: float
    ) -> Path | None:
        path = self._paths.get(address)
        if path is None:
            if len(self._paths) >= MAX_PATHS and not self._evict(now):
                return None
            path = Path(address, self, ours, theirs, now, budget_at=now)
            self._paths[address] = path
        return path

    def _evict(self, now: float) -> bool:
        """Make room by forgetting the idle path that was heard longest ago."""
        idle = [p for p in self._paths.values() if p is not self.selected and now - p.seen > 1]
        if idle:
            self._forget(min(idle, key=lambda path: path.seen))
        return bool(idle)

    def _forget(self, path: Path) -> None:
        del self._paths[path.address]
        self.port.release(path.address, path)

    def _role_conflict(self, message: Message) -> bool:
        """RFC 8445 section 7.3.1.1: turn our role, or say that theirs is to turn."""
        attribute = stun.ICE_CONTROLLING if self.controlling else stun.ICE_CONTROLLED
        theirs = message.integer(attribute, 8)
        if theirs is None:
            return False
        stays = (self.tie_breaker >= theirs) is self.controlling
        if not stays:
            self.controlling = not self.controlling
        return stays

    def _heard(
        self, path: Path, ours: Credentials, theirs: Credentials, message: Message, now: float
    ) -> None:
        ours.used = path.seen = now
        renewed = path.renew(ours, theirs)
        path.priority = message.integer(stun.PRIORITY, 4) or path.priority
        if not self.controlling and stun.USE_CANDIDATE in message.attributes:
            path.nominated = now
            self.credentials.nominated(ours)
        if self.selected is None:
            self._select(path)
        self._consider(path, now)
        unsure = path.answered is None and path.tries < len(_CHECK_DELAYS)
        if (unsure or renewed) and not self.quiet and now - path.checked >= _CHECK_SPACING:
            self._check(path, now)

    def response(self, message: Message, address: Address, now: float) -> None:
        """A success or error response to a check of ours."""
        transaction = self._transactions.get(message.transaction)
        if transaction is None or transaction.path.address != address:
            return  # not symmetric: RFC 8445 section 7.2.5.2.1
        if not message.integrity_holds(transaction.key):
            self.statistics.refused += 1
            return
        self.end_transaction(message.transaction)
        path = transaction.path
        if self._paths.get(address) is not path:
            return
        if message.kind == stun.BINDING_ERROR:
            self._refuse(path, message.error_code(), now)
            return
        if not self.port.claim(address, path, now):
            return
        first = path.answered is None
        path.seen = path.answered = now
        path.tries = 0
        if first:
            self.on_answered(path)
        if self.selected is None:
            self._select(path)
        self._consider(path, now)
        wait = consent_wait(self.consent_timeout)
        path.next_check = now + wait if path is self.selected else NEVER

    def _refuse(self, path: Path, code: int | None, now: float) -> None:
        if code == 487:
            self.controlling = not self.controlling
            self._check(path, now)
        elif code == 400 and self.selected in (None, path):
            self.refused = True
            self.on_schedule(now)

    def probe(self, address: Address, size: int, now: float) -> None:
        """Media of theirs, ``size`` bytes, has come from there: ask whether they are there now."""
        path = self._path(address, self.credentials.ours, self.credentials.theirs, now)
        if path is not None:
            path.grant(size)
            if now - path.checked >= _CHECK_SPACING:
                self._check(path, now)

    # -- which path ----------------------------------------------------------------------

    def _consider(self, path: Path, now: float) -> None:
        """Move the sending side to ``path`` if it has earned it.

        A nominated path wins over one of lower or equal priority at once; over a higher one once
        that is no longer nominated (aggressive nomination flags every check). Without it only a
        silent path is left; to one that was left nobody goes back before it sends media again.
        """
        old = self.selected
        if not old or old is path or path.silent(now) or (self.settled and path.answered is None):
            return
        silent = old.silent(now)
        if path.nominated is not None:
            lapsed = old.nominated is None or now - old.nominated > _NOMINATION_HOLD
            newer = path.theirs.number > old.theirs.number
            if path.priority >= old.priority or lapsed or silent or newer:
                self._select(path)
        elif silent:
            self._select(path)

    def _select(self, path: Path) -> None:
        if self.selected is not None:
            self.statistics.moves += 1
        self.selected = path
        self.on_selected(path)

    # -- checks of our own ---------------------------------------------------------------

    def _check(self, path: Path, now: float) -> None:
        if not path.theirs.pwd:
            return
        transaction = os.urandom(12)
        role = stun.ICE_CONTROLLING if self.controlling else stun.ICE_CONTROLLED
        attributes = [
            (stun.USERNAME, f"{path.theirs.ufrag}:{path.ours.ufrag}".encode()),
            (stun.PRIORITY, _PRFLX_PRIORITY.to_bytes(4, "big")),
            (role, self.tie_breaker.to_bytes(8, "big")),
        ]
        if self.controlling and self.selected in (None, path):
            attributes.append((stun.USE_CANDIDATE, b""))
        key = path.theirs.pwd.encode()
        data = stun.build(stun.BINDING_REQUEST, transaction, attributes, key)
        if not path.may_send(len(data)):
            path.next_check = NEVER  # its next check brings the credit for ours
            return
        for old in overdue(self._transactions, now):
            self.end_transaction(old)
        sent = self.port.sendto(data, path.address)
        if sent:
            self._transactions[transaction] = Transaction(path, key, now)
            self.port.add_transaction(transaction, self)
            path.asks(transaction)
        path.checked = now
        if path.answered is not None:
            regular = consent_wait(self.consent_timeout)
            path.next_check = now + retry_wait(now - path.answered, regular, sent=sent)
        elif path.tries < len(_CHECK_DELAYS):
            path.next_check = now + _CHECK_DELAYS[path.tries]
            path.tries += 1
        else:
            path.next_check = NEVER
        if path.next_check != NEVER:
            self.on_schedule(path.next_check)

    def _answer(self, path: Path, request: Message, data: bytes) -> None:
        # What is no longer than its request gains nothing for who asks in another's name.
        if len(data) <= len(request.raw) or path.may_send(len(data)):
            self.port.sendto(data, path.address)

    def end_transaction(self, transaction: bytes) -> None:
        """A check of ours is answered, or will not be."""
        self._transactions.pop(transaction, None)
        self.port.drop_transaction(transaction)

    # -- time ----------------------------------------------------------------------------

    def tick(self, now: float) -> float:
        """Send what is due, leave silent paths.

        Returns:
            When to be called next.
        """
        for path in list(self._paths.values()):
            idle = path is not self.selected and now - path.seen > CONSENT_LIFE
            if idle:
                self._forget(path)
            elif path.due(now):
                wanted = path.answered is None or path is self.selected
                if wanted and not self.quiet:
                    self._check(path, now)
                else:
                    path.next_check = NEVER
        if self.selected is not None and self.selected.silent(now):
            for path in list(self._paths.values()):
                self._consider(path, now)
        self.credentials.expire(now)
        return self._next_tick(now)

    def _next_tick(self, now: float) -> float:
        times = [path.next_check for path in self._paths.values()]
        if self.selected is not None:
            times.append(self.selected.seen + self.consent_timeout + 0.01)
            if self.selected.next_check == NEVER and self.selected.answered is not None:
                self.selected.next_check = now + consent_wait(self.consent_timeout)
                times.append(self.selected.next_check)
        if len(self._paths) > 1 or self.credentials.several:
            times.append(now + SILENCE)
        return max(min(times, default=now + CONSENT_INTERVAL), now + 0.005)

    def expired(self, now: float) -> str | None:
        """Why the peer is to be given up, None while it lives."""
        if self.refused:
            return REFUSED
        return None if self.selected is None else self.selected.expired(now, self.consent_timeout)

    def close(self) -> None:
        """Forget everything; the port no longer knows us."""
        if self._closed:
            return
        self._closed = True
        self.credentials.close()
        for path in list(self._paths.values()):
            self._forget(path)
        for transaction in list(self._transactions):
            self.end_transaction(transaction)
        self.selected = None
        self.on_datagram = self.on_selected = self.on_answered = self.on_schedule = ignore
