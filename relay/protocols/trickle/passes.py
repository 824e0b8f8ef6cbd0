"""Who may come in where, by bearer tokens (RFC 6750): a server asks for them if it is told to.

Pure. A refusal is the same whether a channel is there or not: without a token it is 401, and
with one that is not for this name, or not for this request, it is 403. Whoever holds the
token of a channel that has ended is let through to be told so.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Final

from relay.errors import Forbidden, Unauthorized

MAX_TOKEN: Final = 1024
_CREDENTIALS: Final = re.compile(rf"(?i:bearer) +(?=[^=])([A-Za-z0-9._~+/-]{{0,{MAX_TOKEN}}}=*)")


class Access(Flag):
    """What the holder of a name or a token may do; ``/next`` is for both."""

    READ = auto()
    WRITE = auto()  # and delete
    ALL = READ | WRITE


@dataclass(slots=True, eq=False)
class Pass:
    """One side's token, and what has been seen of that side.

    Attributes:
        token: 43 characters, 256 random bits.
        shown: it has come with a request.
        missed: a request that only this side makes has come without a token.
    """

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    shown: bool = False
    missed: bool = False


_Entry = tuple[Pass, bytes, Access]


class Passes:
    """
    Args:
        kept: names of ended channels whose tokens are still known, the newest.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._entries: dict[str, list[_Entry]] = {}
        self._ended: dict[str, list[_Entry]] = {}
        # Compared in the place of the tokens of a name that there is not.
        self._nobody: list[_Entry] = [_entry(Pass(), Access(0))]

    def let(self, name: str, one: Pass, access: Access) -> None:
        """Let the holder of a token do that much under a name."""
        self._ended.pop(name, None)
        self._entries.setdefault(name, []).append(_entry(one, access))

    def end(self, name: str) -> None:
        """The channel of a name is gone; unknown: nothing."""
        entries = self._entries.pop(name, None)
        if entries is None:
            return
        self._ended[name] = entries
        while len(self._ended) > self._kept:
            del self._ended[next(iter(self._ended))]

    def check(self, name: str, authorization: Sequence[str], needed: Access) -> None:
        """Let a request in.

        Args:
            authorization: the values of its ``Authorization`` headers.
            needed: reading or writing; ``ALL``: any of both.

        Raises:
            Unauthorized: there is not one bearer token.
            Forbidden: it is not for this.
        """
        entries = self._entries.get(name) or self._ended.get(name) or self._nobody
        given = bearer(authorization)
        if given is None:
            # Who asks for the next number is about to write.
            asked = Access.WRITE if needed is Access.ALL else needed
            for one, _, access in entries:
                one.missed = one.missed or asked in access
            raise Unauthorized("A trickle token is needed", code="no_token")
        held: Access | None = None
        for one, token, access in entries:
            if hmac.compare_digest(token, given):
                one.shown = True
                held = access
        if held is None or (needed is not Access.ALL and needed not in held):
            raise Forbidden("Not with this token", code="wrong_token")


def bearer(authorization: Sequence[str]) -> bytes | None:
    """The token of the one ``Authorization`` header; None when there is not exactly one."""
    if len(authorization) != 1:
        return None
    match = _CREDENTIALS.fullmatch(authorization[0])
    return match[1].encode() if match else None


def _entry(one: Pass, access: Access) -> _Entry:
    return one, one.token.encode(), access
