"""The certificate that our end of a DTLS connection shows: made by itself, known by its hash."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from relay.protocols.webrtc.srtp import PROFILES

LIFE: Final = timedelta(days=30)
_SKEW: Final = timedelta(days=1)
"""That the other end's clock may be behind."""
_CIPHERS: Final = ("AES128-GCM-SHA256", "CHACHA20-POLY1305", "AES128-SHA", "AES256-SHA")
"""With ECDHE and ECDSA: what RFC 8827 section 6.5 asks for first, others for older clients."""


class Certificate:
    """A P-256 key, what it signed of itself, and the one SSL context of all who show it.

    Args:
        profiles: of SRTP, by OpenSSL's names, the most wanted first.
    """

    def __init__(self, profiles: tuple[bytes, ...] = tuple(PROFILES)) -> None:
        self._profiles = profiles
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, secrets.token_hex(16))])
        now = datetime.now(UTC)
        made = x509.CertificateBuilder(
            name, name, self._key.public_key(), x509.random_serial_number(), now - _SKEW, now + LIFE
        )
        self._signed = made.sign(self._key, hashes.SHA256())

    @cached_property
    def context(self) -> SSL.Context:
        """Made once, not for each peer."""
        context = SSL.Context(SSL.DTLS_METHOD)
        context.use_certificate(self._signed)
        context.use_privatekey(self._key)
        # Nobody vouches for the other end's: it is to be there, and is held against the
        # fingerprints that were signalled.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.set_cipher_list(":".join(f"ECDHE-ECDSA-{each}" for each in _CIPHERS).encode())
        context.set_tlsext_use_srtp(b":".join(self._profiles))
        # Nobody resumes a connection of media: its session, with the peer's certificate, would
        # be kept for nothing.
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        return context

    def fingerprint(self, kind: type[hashes.HashAlgorithm] = hashes.SHA256) -> str:
        """As SDP has it (RFC 8122 section 5): pairs of capital digits between colons."""
        return self._signed.fingerprint(kind()).hex(":").upper()

    @cached_property
    def sha256(self) -> str:
        return self.fingerprint()
