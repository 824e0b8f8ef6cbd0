"""Consent on the path of a peer, in native hands (``native/consent.c``).

Checks that name the credentials in use are answered there, and the answers to ours are noted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from relay.protocols.webrtc.datagrams import packed
from relay.protocols.webrtc.path import Path

if TYPE_CHECKING:
    from relay.protocols.webrtc.native_receive import NativeReceiver


class NativeConsent:
    """
    Args:
        consent: a ``struct rx_consent``, good until ``close``.
        lead: has what comes from an address led there; whether there is room for one more.
    """

    def __init__(
        self, receiver: NativeReceiver, consent: Any, lead: Callable[[bytes], bool]
    ) -> None:
        self._receiver = receiver
        self._consent: Any = consent
        self._lead = lead
        self._path: Path | None = None

    @property
    def address(self) -> int:
        """Of the ``struct rx_consent``."""
        ffi = self._receiver.ffi
        return int(ffi.cast("uintptr_t", ffi.addressof(self._consent)))

    def hear(self, path: Path) -> None:
        """From now on the peer is at ``path``."""
        consent = self._consent
        if consent is None:
            return
        self.leave()
        if not self._lead(packed(path.address)):
            return
        consent.name_length = 0
        consent.tie_breaker, consent.ask_every = 0, 0.0
        consent.seen = consent.checked = consent.nominated = consent.answered = 0
        consent.asked = 0
        path.native = consent
        self._path = path
        path.refresh()

    @property
    def settled(self) -> bool:
        """Whether checks are answered natively."""
        return self._consent is not None and bool(self._consent.name_length)

    def settle(self, *, moving: bool) -> None:
        """To be called now and then while they are not.

        Args:
            moving: whether roles or credentials are.
        """
        consent, path, receiver = self._consent, self._path, self._receiver
        if consent is None or path is None or moving:
            return
        if path.answered is None or not path.theirs.pwd:
            return
        path.refresh()
        name = f"{path.ours.ufrag}:{path.theirs.ufrag}".encode()
        ours, theirs = path.ours.pwd.encode(), path.theirs.pwd.encode()
        agree = receiver.lib.rx_agree
        agree(
            receiver.ffi.addressof(consent), name, len(name), ours, len(ours), theirs, len(theirs)
        )

    @property
    def path(self) -> Path | None:
        return self._path

    def ask(self, tie_breaker: int) -> None:
        """Checks of ours may leave natively."""
        if self._path is not None:
            self._path.hand_over(tie_breaker)

    def ask_no_more(self) -> None:
        """They leave from Python."""
        path = self._path
        if path is not None and path.take_back():
            path.session.on_schedule(path.next_check)

    def count(self) -> int:
        """Checks that were answered since the last call."""
        consent = self._consent
        if consent is None:
            return 0
        answered: int = consent.checks
        consent.checks = 0
        return answered

    def leave(self) -> None:
        """The peer is not there any more: all that comes goes to Python."""
        if self._path is not None:
            self._path.refresh()
            self.ask_no_more()
            self._path.native = None
            self._path = None
            self._consent.name_length = 0

    def close(self) -> None:
        """A second call does nothing."""
        if self._consent is not None:
            self.leave()
            self._consent = None
            self._lead = _nowhere  # whose way it was holds this


def _nowhere(raw: bytes) -> bool:
    return False
