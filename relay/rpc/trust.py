"""Whom we take a peer for, by its certificate, and where it may send us.

Nodes of the network have self-signed certificates, a fresh one each time they start. With
``pin`` the first one seen counts: a peer that shows another one when it is asked for its
offer was started again, and that is logged; a job keeps the certificate that its
orchestrator had when the job was posted, and whoever shows another one then is not let in.
With ``ca`` the system's authorities decide, with ``off`` nobody does.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from ssl import SSLContext
from typing import Any, Final, Protocol

import aiohttp

from relay.config import NodeTls, ReachMode
from relay.errors import BadInput, ConfigError, PeerError, foreign_words
from relay.rpc.address import NodeAddress, check_url
from relay.rpc.certificate import client_context
from relay.rpc.reach import ANYWHERE, Reach, reach_of

log = logging.getLogger(__name__)

UNTRUSTED: Final = "untrusted"
MAX_KNOWN: Final = 4096
"""Of more nodes, the longest unseen is forgotten."""
MAX_CONTEXTS: Final = 32
UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21, 27, 28})
"""OpenSSL's X509_V_ERR codes of a chain that ends nowhere that is trusted."""
OTHER_NAME: Final = frozenset({62, 64})
"""... and of a host or an address that is not in it."""


@dataclass(frozen=True, slots=True)
class Met:
    """What is known of a ``host:port``.

    Attributes:
        pin: SHA-256 of its certificate; None over plain text.
        vouched: seen when it was asked what it offers, where changes are accepted.
        peer: its IP address; None until it was asked over gRPC.
        here: ours, of that connection.
    """

    pin: bytes | None
    vouched: bool
    peer: str | None = None
    here: str | None = None


class GuardedContext(SSLContext):
    """A context that verifies, and knows where its peer may send us."""

    reach: Reach


class Pinned(aiohttp.Fingerprint):
    """What aiohttp asks, once a connection is up and before a byte of a request goes out.

    It is part of the key that connections are kept under: one that was made under
    another pin, or another reach, is never used again for this one.

    Args:
        accept: gets a fingerprint; answers with the right one when it is not that.
    """

    def __init__(
        self, key: Hashable, reach: Reach, accept: Callable[[bytes], bytes | None]
    ) -> None:
        super().__init__(bytes(32))
        self.reach = reach
        self._key = (key, reach)
        self._accept = accept

    def check(self, transport: Any) -> None:
        shown = transport.get_extra_info("ssl_object")
        der = shown.getpeercert(binary_form=True) if shown is not None else None
        got = sha256(der or b"").digest()
        expected = self._accept(got) if der else bytes(32)
        if expected is not None:
            host, port, *_ = transport.get_extra_info("peername") or ("", 0)
            raise aiohttp.ServerFingerprintMismatch(expected, got, str(host), int(port))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pinned) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


class _Met(Protocol):
    def __call__(
        self, authority: str, got: bytes | None, peer: str | None, here: str | None, /
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Guard:
    """The rule for connections to one ``host:port``.

    Attributes:
        ssl: for aiohttp, also for http addresses: the reach is in it.
        h2: for gRPC.
    """

    authority: str
    reach: Reach
    ssl: GuardedContext | Pinned
    h2: SSLContext
    _met: _Met

    def met(self, der: bytes | None, peer: str | None, here: str | None) -> None:
        """A gRPC connection is up; nothing was sent yet.

        Args:
            der: the peer's certificate; None over plain text.
            peer: its IP address.
            here: ours.

        Raises:
            PeerError: ``untrusted``.
        """
        self._met(self.authority, sha256(der).digest() if der else None, peer, here)


class Trust:
    """Everyone that this node has met.

    Args:
        mode: what certificates are held to.
        reach: what addresses that peers name are held to.
        ca: PEM of authorities, beside the system's.

    Raises:
        ConfigError: ``ca`` cannot be read.
    """

    def __init__(
        self, mode: NodeTls = "pin", reach: ReachMode = "auto", *, ca: Path | None = None
    ) -> None:
        self.mode = mode
        self._reach_mode = reach
        self._ca = ca
        self._known: dict[str, Met] = {}
        self._contexts: dict[Reach, GuardedContext] = {}
        self._h2 = _verifying(ca) if mode == "ca" else client_context(verify=False)
        self._h2.set_alpn_protocols(["h2"])

    def known(self, authority: str) -> Met | None:
        return self._known.get(authority)

    def reach_by(self, url: str) -> Reach:
        """Where the node at ``url`` may send us; as from a public one, if it was never met."""
        met = self.known(authority_of(_node(url)))
        if met is None:
            return reach_of(self._reach_mode, None)
        return reach_of(self._reach_mode, met.peer, met.here)

    def reach_from(self, peer: str | None, here: str | None) -> Reach:
        """The same for a peer that called us, by the addresses of that connection."""
        return reach_of(self._reach_mode, peer, here)

    def meeting(self, url: str, *, by: str | None = None) -> Guard:
        """For asking a peer what it offers: here a new certificate is accepted.

        Args:
            by: the node that named the address; None: the operator did.

        Raises:
            PeerError: ``address_refused``, or ``bad_address``.
        """
        reach = ANYWHERE if by is None else self.reach_by(by)
        return self._guard(url, reach, "meeting", self._accept_any, self._note_meeting)

    def greeting(self, url: str, *, by: str | None = None) -> Guard:
        """The same for a call by gRPC, whose port is another when none is given."""
        return self.meeting(_node(url), by=by)

    def job(self, reach: Reach) -> JobTrust:
        """For what one job calls, from its posting to its end."""
        return JobTrust(self, reach)

    def note(
        self,
        authority: str,
        pin: bytes | None,
        *,
        vouched: bool,
        peer: str | None = None,
        here: str | None = None,
    ) -> None:
        """Take down what was seen, and log another certificate than before."""
        before = self._known.pop(authority, None)
        if before is not None:
            if self.mode == "pin" and before.pin and pin and before.pin != pin:
                log.warning(
                    "%s has another certificate than before: %s, it was %s; it was started "
                    "again, or somebody stands between",
                    authority,
                    pin.hex(),
                    before.pin.hex(),
                )
            pin = pin or before.pin
            vouched = vouched or before.vouched
            peer, here = (peer, here) if peer else (before.peer, before.here)
        elif len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[authority] = Met(pin, vouched, peer, here)

    # --- for the guards ----------------------------------------------------------------

    def _guard(
        self,
        url: str,
        reach: Reach,
        key: Hashable,
        accept: Callable[[str, bytes], bytes | None],
        met: _Met,
    ) -> Guard:
        authority = authority_of(url)
        reach.check_url(url)
        shown: GuardedContext | Pinned
        if self.mode == "ca":
            shown = self._context(reach)
        elif self.mode == "off":
            shown = Pinned("off", reach, lambda _: None)
        else:
            shown = Pinned(key, reach, lambda got: accept(authority, got))
        return Guard(authority, reach, shown, self._h2, met)

    def _accept_any(self, authority: str, got: bytes) -> None:
        self.note(authority, got, vouched=True)

    def _note_meeting(
        self, authority: str, got: bytes | None, peer: str | None, here: str | None
    ) -> None:
        self.note(authority, got, vouched=True, peer=peer, here=here)

    def _context(self, reach: Reach) -> GuardedContext:
        context = self._contexts.get(reach)
        if context is None:
            if len(self._contexts) >= MAX_CONTEXTS:
                del self._contexts[next(iter(self._contexts))]
            context = self._contexts[reach] = _verifying(self._ca)
            context.reach = reach
        return context


class JobTrust:
    """The pins that were in force when a job was posted, for as long as it runs.

    An address at which nobody was asked for an offer is pinned by the job's first
    connection to it.
    """

    def __init__(self, trust: Trust, reach: Reach) -> None:
        self._trust = trust
        self._reach = reach
        self._pins: dict[str, bytes | None] = {}

    def guard(self, url: str) -> Guard:
        """
        Raises:
            PeerError: ``address_refused``, or ``bad_address``.
        """
        authority = authority_of(url)
        if authority not in self._pins:
            met = self._trust.known(authority)
            self._pins[authority] = met.pin if met is not None and met.vouched else None
        pin = self._pins[authority]
        # Until it is known, connections are this job's alone.
        key: Hashable = ("pin", pin) if pin else ("first", self)
        return self._trust._guard(url, self._reach, key, self._accept, self._met)

    def _accept(self, authority: str, got: bytes) -> bytes | None:
        """The pin that ``got`` is not; None when it is."""
        expected = self._pins[authority]
        if expected is None:
            self._pins[authority] = got
            self._trust.note(authority, got, vouched=False)
            return None
        return None if got == expected else expected

    def _met(self, authority: str, got: bytes | None, peer: str | None, here: str | None) -> None:
        if self._trust.mode != "pin" or got is None:
            return
        expected = self._accept(authority, got)
        if expected is not None:
            raise mismatch(authority, expected, got)


def mismatch(where: str, expected: bytes, got: bytes) -> PeerError:
    return PeerError(
        f"{where} shows the certificate {got.hex()} and is held to {expected.hex()}: it was "
        "started again, or somebody stands between",
        code=UNTRUSTED,
    )


def distrust(where: str, error: ssl.SSLCertVerificationError) -> PeerError:
    """What is wrong with a certificate that has to be vouched for, and what to do about it."""
    why = error.verify_message or foreign_words(error)
    if error.verify_code in UNKNOWN_AUTHORITY:
        words = (
            f"its certificate is signed by no authority that we know ({why}): "
            "node_ca names more of them, and node_tls: pin needs none"
        )
    elif error.verify_code in OTHER_NAME:
        words = f"its certificate is made for another name: {why}"
    else:
        words = f"its certificate does not hold: {why}"
    return PeerError(f"{where}: {words}", code=UNTRUSTED)


def authority_of(url: str) -> str:
    """``host:port`` of an http or https address, what a pin is kept under.

    Raises:
        PeerError: ``bad_address``.
    """
    try:
        parts = check_url(url, what="address")
    except BadInput as error:
        raise PeerError(str(error), code=error.code) from error
    tls = parts.scheme == "https"
    port = parts.port if parts.port is not None else (443 if tls else 80)
    return NodeAddress(str(parts.hostname), port, tls).authority


def _node(url: str) -> str:
    try:
        return NodeAddress.parse(url).url
    except BadInput as error:
        raise PeerError(str(error), code=error.code) from error


def _verifying(ca: Path | None) -> GuardedContext:
    context = GuardedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.reach = ANYWHERE
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if ca is not None:
        try:
            context.load_verify_locations(cafile=ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"cannot use {ca} (node_ca): {error}") from error
    return context
