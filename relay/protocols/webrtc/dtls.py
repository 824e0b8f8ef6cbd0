"""aiortc's DTLS, driven by datagrams and a clock: the one door to aiortc.

Of aiortc only ``RTCCertificate`` and what it knows of SRTP's profiles are used. Its transports,
ICE, SDP, senders, receivers and jitter buffers never come to be, and its tasks never start.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import pylibsrtp
import pylibsrtp._binding
from aiortc import rtcdtlstransport
from OpenSSL import SSL, crypto

from relay.errors import ConfigError
from relay.protocols.webrtc.dtls_records import HANDSHAKE, MTU, announcements, split_records

SrtpError = pylibsrtp.Error

MAX_HANDSHAKE: Final = 16 << 10
"""Bytes of all handshake messages that the other end announces; with a chain of certificates
they are some eight thousand."""

MAX_MESSAGES: Final = 16

_HASHES: Final = {"sha-256": "sha256", "sha-384": "sha384", "sha-512": "sha512"}
_RESEND_DELAYS: Final = (0.25, 0.5)
_REPEAT_SPACING: Final = 0.2
_READ_SIZE: Final = 1500
_MAX_FLIGHT: Final = 1 << 14  # bytes; more than OpenSSL writes at once
_SRTP_BUFFER: Final = 2048
_SRTP_TRAILER: Final = 148  # of RTCP: index, tag and the room libsrtp wants for a key name
_CERTIFICATE_HOOKS: Final = ("_create_ssl_context", "getFingerprints", "generateCertificate")
_PROFILE_HOOKS: Final = (
    "get_key_and_salt",
    "key_length",
    "libsrtp_profile",
    "openssl_profile",
    "salt_length",
)
_SRTP_HOOKS: Final = ("srtp_protect", "srtp_protect_rtcp", "srtp_unprotect", "srtp_unprotect_rtcp")
_MODULE_HOOKS: Final = ("SRTP_PROFILES",)
_KEYS: Final = b"EXTRACTOR-dtls_srtp"


def check_hooks() -> None:
    """See that every private name of aiortc that we use is there.

    Raises:
        ConfigError: ``aiortc_version``, naming what is missing.
    """
    binding = pylibsrtp._binding
    missing = [name for name in _MODULE_HOOKS if not hasattr(rtcdtlstransport, name)]
    missing += [f"pylibsrtp {name}" for name in _SRTP_HOOKS if not hasattr(binding.lib, name)]
    if not hasattr(pylibsrtp.Session(), "_srtp"):
        missing.append("pylibsrtp.Session._srtp")
    if not missing:
        kind = rtcdtlstransport.RTCCertificate
        missing = [f"RTCCertificate.{n}" for n in _CERTIFICATE_HOOKS if not hasattr(kind, n)]
    if not missing:
        probe = rtcdtlstransport.SRTP_PROFILES[0]
        missing = [f"SRTPProtectionProfile.{n}" for n in _PROFILE_HOOKS if not hasattr(probe, n)]
    if missing:
        raise ConfigError(
            f"this aiortc does not fit (1.16 is needed): it lacks {', '.join(missing)}",
            code="aiortc_version",
        )


class Certificate(rtcdtlstransport.RTCCertificate):
    """A certificate whose SSL context is made once, not for each peer."""

    _context: Any = None
    _sha256 = ""

    def _create_ssl_context(self, srtp_profiles: list[Any]) -> Any:
        if self._context is None:
            self._context = super()._create_ssl_context(srtp_profiles)
            # Nobody resumes a connection of media: its session, with the peer's certificate, would
            # be kept for nothing.
            self._context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        return self._context

    def context(self) -> Any:
        return self._context or self._create_ssl_context(_srtp_profiles())

    def sha256(self) -> str:
        if not self._sha256:
            prints = {f.algorithm: f.value for f in self.getFingerprints()}
            self._sha256 = str(prints["sha-256"])
        return self._sha256


def _srtp_profiles() -> list[Any]:
    """AES-128-GCM first: a third cheaper to protect with than AES-CM and SHA-1."""
    order = (b"SRTP_AEAD_AES_128_GCM", b"SRTP_AEAD_AES_256_GCM", b"SRTP_AES128_CM_SHA1_80")
    found = {p.openssl_profile: p for p in rtcdtlstransport.SRTP_PROFILES}
    return [found[name] for name in order if name in found]


@cache
def _policy(profile: int, ssrcs: int) -> pylibsrtp.Policy:
    """Made once for all connections: only the keys differ."""
    policy = pylibsrtp.Policy(ssrc_type=ssrcs, srtp_profile=profile)
    policy.allow_repeat_tx = True
    policy.window_size = 1024  # packets
    return policy


def _session(profile: int, ssrcs: int, keys: bytes) -> pylibsrtp.Session:
    """libsrtp's context of one direction."""
    policy = _policy(profile, ssrcs)
    policy.key = keys
    try:
        return pylibsrtp.Session(policy)
    finally:
        policy.key = None


@dataclass(frozen=True, slots=True)
class Srtp:
    """The keys of a connection, as functions from packet to packet.

    Each raises ``SrtpError``: not authentic, replayed, too short or too long.

    Attributes:
        rtcp_trailer: bytes of a protected RTCP packet from its index on.
    """

    protect: Callable[[bytes], bytes]
    protect_rtcp: Callable[[bytes], bytes]
    unprotect: Callable[[bytes], bytes]
    unprotect_rtcp: Callable[[bytes], bytes]
    sending: NativeKeys
    receiving: NativeKeys
    rtcp_trailer: int


class NativeKeys:
    """The keys of one direction, for native code.

    Attributes:
        pointer: address of libsrtp's context; good as long as this object is there.
    """

    def __init__(self, session: Any) -> None:
        self._session = session  # frees the context when it is collected
        ffi = pylibsrtp._binding.ffi
        self.pointer = int(ffi.cast("uintptr_t", session._srtp[0]))


def protect_pointer(name: str = "srtp_protect") -> int:
    """The address of a function of libsrtp, for native code."""
    binding = pylibsrtp._binding
    function = binding.ffi.addressof(binding.lib, name)
    return int(binding.ffi.cast("uintptr_t", function))


def _memory() -> tuple[Any, Any, Any]:
    """For one packet, and its length: of all transforms of a connection, which copy out of it what
    they return."""
    ffi = pylibsrtp._binding.ffi
    memory = ffi.new("char[]", _SRTP_BUFFER)
    return memory, ffi.buffer(memory), ffi.new("int *")


def _transform(
    place: tuple[Any, Any, Any], session: Any, name: str, room: int
) -> Callable[[bytes], bytes]:
    """What ``pylibsrtp.Session`` does, with its buffers made once: 2 us less a packet."""
    function = getattr(pylibsrtp._binding.lib, name)
    memory, buffer, length = place
    keys = session._srtp[0]
    largest = _SRTP_BUFFER - room

    def transform(packet: bytes) -> bytes:
        size = len(packet)
        if size > largest:
            raise SrtpError("packet is too long")
        buffer[0:size] = packet
        length[0] = size
        status = function(keys, memory, length)
        if status:
            raise SrtpError(f"{name}: {pylibsrtp.ERRORS[status]}")
        written: bytes = buffer[0 : length[0]]
        return written

    # The session frees its keys when it is collected.
    transform.session = session  # type: ignore[attr-defined]
    return transform


class Dtls:
    """One end of a connection, driven by datagrams and a clock.

    Attributes:
        ready: the handshake is done, the other end is who it should be, keys are there.
        failure: why it cannot go on, None while it can.
        ended: the other end said goodbye.
    """

    def __init__(
        self, certificate: Certificate, fingerprints: Sequence[tuple[str, str]], *, client: bool
    ) -> None:
        self.encrypted = False
        self.ready = False
        self.failure: str | None = None
        self.ended = False
        self._fingerprints = [f for f in fingerprints if f[0] in _HASHES]
        self._flight: list[bytes] = []
        self._flight_sent = 0.0
        self._resends: list[float] = []
        self._goodbye: list[bytes] | None = None
        self._announced: dict[int, int] = {}
        self._client = client
        self._sending: Any = None
        self._receiving: Any = None
        self._connection = SSL.Connection(certificate.context())
        self._connection.set_ciphertext_mtu(MTU)
        if client:
            self._connection.set_connect_state()
        else:
            self._connection.set_accept_state()

    def begin(self, now: float) -> list[bytes]:
        """The first flight, where we are the client."""
        self._advance()
        return self._new_flight(now)

    def receive(self, data: bytes, now: float) -> list[bytes]:
        """Take one datagram; returns those to send."""
        if self.failure is not None or self.ended:
            return []
        if not self.encrypted and not self._affords(data):
            return []
        self._connection.bio_write(data)
        if not self.encrypted:
            self._advance()
        if self.ready:
            self._drain()
        flight = self._new_flight(now)
        repeated = not flight and data[0] in HANDSHAKE and self.failure is None
        if repeated and now - self._flight_sent >= _REPEAT_SPACING:
            # The other end says again what we know: our last flight was lost.
            self._flight_sent = now
            return self._flight
        return flight

    def _affords(self, data: bytes) -> bool:
        """Whether OpenSSL may have it.

        It makes room at once for ten messages that are to come, each of up to 100 kB as a first
        fragment announces it: some thousand bytes would take a million of ours.
        """
        announced = dict(self._announced)
        for sequence, length in announcements(data):
            announced[sequence] = max(length, announced.get(sequence, 0))
        if len(announced) > MAX_MESSAGES or sum(announced.values()) > MAX_HANDSHAKE:
            return False
        self._announced = announced
        return True

    def _advance(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            self.failure = f"DTLS handshake failed: {_reason(error)}"
            return
        self.encrypted = True
        self._resends.clear()
        if not self._is_who_it_should_be():
            self.failure = "the certificate does not fit the fingerprint"
            return
        if not self._take_keys():
            self.failure = "no common SRTP profile"
            return
        self.ready = True

    def _take_keys(self) -> bool:
        """Those of both ends, the client's first (RFC 5764 section 4.2); whether there are any."""
        name = self._connection.get_selected_srtp_profile()
        known = (p for p in rtcdtlstransport.SRTP_PROFILES if p.openssl_profile == name)
        profile = next(known, None)
        if profile is None:
            return False
        size = 2 * (profile.key_length + profile.salt_length)
        material = self._connection.export_keying_material(_KEYS, size)
        ours, theirs = (0, 1) if self._client else (1, 0)
        kind = profile.libsrtp_profile
        outgoing, incoming = (profile.get_key_and_salt(material, at) for at in (ours, theirs))
        self._sending = _session(kind, pylibsrtp.Policy.SSRC_ANY_OUTBOUND, outgoing)
        self._receiving = _session(kind, pylibsrtp.Policy.SSRC_ANY_INBOUND, incoming)
        return True

    def _is_who_it_should_be(self) -> bool:
        """Whether the certificate has every fingerprint that was signalled, and one at least."""
        certificate = self._connection.get_peer_certificate()
        if certificate is None or not self._fingerprints:
            return False
        der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        return all(
            hashlib.new(_HASHES[name], der).hexdigest().upper() == value.replace(":", "").upper()
            for name, value in self._fingerprints
        )

    def _drain(self) -> None:
        """Read goodbyes and alerts; other data is dropped."""
        try:
            while self._connection.recv(_READ_SIZE):
                pass
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.ended = True
        except SSL.Error as error:
            self.failure = f"DTLS alert: {_reason(error)}"

    def srtp(self) -> Srtp:
        """The keys, once ``ready``."""
        # The tag of GCM stands before the index (RFC 7714 section 9.1), others' behind it.
        gcm = b"AEAD" in self._connection.get_selected_srtp_profile()
        place = _memory()
        return Srtp(
            _transform(place, self._sending, "srtp_protect", _SRTP_TRAILER),
            _transform(place, self._sending, "srtp_protect_rtcp", _SRTP_TRAILER),
            _transform(place, self._receiving, "srtp_unprotect", 0),
            _transform(place, self._receiving, "srtp_unprotect_rtcp", 0),
            NativeKeys(self._sending),
            NativeKeys(self._receiving),
            4 if gcm else 14,
        )

    def poll(self, now: float) -> list[bytes]:
        """What is due again.

        OpenSSL waits a whole second at first; the same datagrams sent sooner are dropped
        as replays where they did arrive.
        """
        if self._resends and now >= self._resends[0]:
            self._resends.pop(0)
            self._flight_sent = now
            return self._flight
        if self._connection.DTLSv1_get_timeout() == 0:
            self._connection.DTLSv1_handle_timeout()
            return self._new_flight(now)
        return []

    def next_poll(self, now: float) -> float | None:
        seconds: float | None = self._connection.DTLSv1_get_timeout()
        times = self._resends[:1] + ([] if seconds is None else [now + seconds])
        return min(times, default=None)

    @property
    def flight(self) -> list[bytes]:
        """The last one, to be sent again."""
        return self._flight

    def goodbye(self) -> list[bytes]:
        """close_notify; the same each time, so that it can be kept for later, or by others.

        It takes a record number of its own, which OpenSSL gives to no other record: whoever sends
        it later, and how often, no nonce is used twice.
        """
        if self._goodbye is None:
            try:
                self._connection.shutdown()
            except SSL.Error:
                return []
            self._goodbye = self._take()
            # Not said yet: the other end may still repeat its last flight, and is heard.
            self._connection.set_shutdown(0)
        return self._goodbye

    def _new_flight(self, now: float) -> list[bytes]:
        flight = self._take()
        if flight:
            self._flight, self._flight_sent = flight, now
            self._resends = [] if self.encrypted else [now + d for d in _RESEND_DELAYS]
        return flight

    def _take(self) -> list[bytes]:
        """All that OpenSSL has written, cut between records into datagrams of at most MTU."""
        try:
            return split_records(self._connection.bio_read(_MAX_FLIGHT))
        except SSL.WantReadError:
            return []


def _reason(error: SSL.Error) -> str:
    details = error.args[0] if error.args else None
    if isinstance(details, list) and details:
        return str(details[0][-1])
    return "unexpected end" if isinstance(error, SSL.SysCallError) else type(error).__name__
