"""What a WHIP and a WHEP session share: PATCH (RFC 9725 section 4.3), entity tag, end."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from relay.errors import (
    BadInput,
    NotFound,
    PreconditionFailed,
    PreconditionRequired,
    RateLimited,
)
from relay.protocols.webrtc import sdpfrag
from relay.protocols.webrtc.budget import REPORT_BURST, REPORT_RATE, Budget
from relay.protocols.webrtc.description import ICE_OPTIONS
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.sdpfrag import Fragment

GRAIN: Final = 0.001
"""Seconds; uvloop's timers count in whole ones of it, and may come that much early. Who is
woken early waits for nothing, in turn after turn, until the moment has come."""

_SHOWN: Final = 8
_PATCHES_A_SECOND: Final = 20.0
_PATCH_BURST: Final = 60.0
_RESTART_COST: Final = 10.0
_REMEMBERED_UFRAGS: Final = 16
_TAG: Final = re.compile(r'\s*((?:W/)?"[^"]*"|[^\s,"]+)\s*(?:,|$)')


def short(session_id: str) -> str:
    """What of a session's id may be shown: the whole of it is the right to end it."""
    return session_id[:_SHOWN]


@dataclass(frozen=True, slots=True)
class PatchAnswer:
    """What a PATCH is answered with: 204 and nothing, or 200 with both."""

    status: int
    body: str | None = None
    etag: str | None = None


class Session:
    """One WHIP or WHEP session over one peer.

    Attributes:
        id: 192 random bits, URL-safe: knowing it is the right to end the session.
        peer: the connection; its ``on_state`` belongs to this class, subclasses
            override ``state_changed``.
        process: number of the process that serves it: this one.
    """

    process = 0

    def __init__(self, peer: Peer) -> None:
        self.id = secrets.token_urlsafe(24)
        self.peer = peer
        self._closed = asyncio.Event()
        self._former_ufrags: deque[str] = deque(maxlen=_REMEMBERED_UFRAGS)
        self._budget = _PATCH_BURST
        self._budget_at = time.monotonic()
        self._reports = Budget(0.0, REPORT_RATE, REPORT_BURST)
        if peer.state is PeerState.CLOSED:
            self._closed.set()
        peer.on_state = self.state_changed

    def may_say(self, now: float) -> bool:
        """Whether one more RTCP packet of the other end's is to be read."""
        if self._reports.take(now):
            return True
        self.peer.statistics.limited += 1
        return False

    @property
    def answer(self) -> str:
        return self.peer.answer

    @property
    def etag(self) -> str:
        """Strong and quoted; it names the ICE generation, so only a restart changes it."""
        return f'"{self.peer.ice.ufrag}"'

    def state_changed(self, state: PeerState) -> None:
        """Called after each change of the peer; a subclass that overrides it calls it too."""
        if state is PeerState.CLOSED:
            self._closed.set()

    async def patch(self, body: bytes, if_match: str | None) -> PatchAnswer:
        """Trickled candidates (204) or an ICE restart (200).

        Which of the two it is, the fragment's user name tells, never If-Match: pages
        send ``*`` with plain candidates.

        Raises:
            NotFound: the session has ended.
            RateLimited: too many of them.
            BadInput, TooLarge: the fragment.
            PreconditionRequired, PreconditionFailed: If-Match, or credentials of an
                older generation (a late packet).
        """
        if self._closed.is_set():
            raise NotFound("the session has ended", code="session_ended")
        self._take_budget(1)
        fragment = sdpfrag.parse(body)
        self._check_if_match(if_match)
        if not self._is_restart(fragment):
            return PatchAnswer(204)
        assert fragment.ufrag is not None
        assert fragment.pwd is not None
        self._take_budget(_RESTART_COST)
        return self._restart(fragment.ufrag, fragment.pwd)

    def _take_budget(self, cost: float) -> None:
        now = time.monotonic()
        self._budget += (now - self._budget_at) * _PATCHES_A_SECOND
        self._budget = min(self._budget, _PATCH_BURST)
        self._budget_at = now
        if self._budget < cost:
            raise RateLimited("too many PATCH requests", code="too_many_patches", retry_after=1)
        self._budget -= cost

    def _check_if_match(self, if_match: str | None) -> None:
        if if_match is None:
            raise PreconditionRequired("If-Match is needed", code="if_match_required")
        if not matches(if_match, self.etag):
            raise PreconditionFailed("another ICE generation is current", code="stale_etag")

    def _is_restart(self, fragment: Fragment) -> bool:
        current = self.peer.ice.remote
        if fragment.ufrag is None:
            if fragment.pwd not in (None, current.pwd):
                raise BadInput("ice-pwd without its ice-ufrag", code="sdp_ice")
            return False
        if fragment.ufrag == current.ufrag:
            return False  # also with another pwd: the old one stays
        if fragment.ufrag in self._former_ufrags:
            raise PreconditionFailed("credentials of a former generation", code="stale_ice")
        if fragment.pwd is None:
            raise BadInput("ice-ufrag without its ice-pwd", code="sdp_ice")
        return True

    def _restart(self, remote_ufrag: str, remote_pwd: str) -> PatchAnswer:
        peer = self.peer
        assert peer.agreed is not None
        self._former_ufrags.append(peer.ice.remote.ufrag)
        ufrag, pwd = peer.ice.restart(remote_ufrag, remote_pwd, time.monotonic())
        body = sdpfrag.serialise(
            ufrag, pwd, peer.candidates, peer.agreed.media_lines(), ice_options=ICE_OPTIONS
        )
        return PatchAnswer(200, body, self.etag)

    async def close(self, reason: str) -> None:
        """End it: the peer is told, everything is freed. A second call does nothing."""
        await self.peer.close(reason)

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    @property
    def close_reason(self) -> str:
        """Why it has ended."""
        return self.peer.close_reason

    async def wait_closed(self) -> str:
        """Wait for the end, by either side; returns why."""
        await self._closed.wait()
        return self.peer.close_reason


def matches(if_match: str, etag: str) -> bool:
    """Whether If-Match holds (RFC 9110 section 13.1.1, strong comparison).

    Forgiving in two things: ``"*"`` is taken for the wildcard, as RFC 9725 prints it,
    and a tag without its quotes is compared by its text.
    """
    value = if_match.strip()
    if value in ("*", '"*"'):
        return True
    tags = [match[1] for match in _TAG.finditer(value[:512])]
    return etag in tags or etag.strip('"') in tags
