"""DTLS of OpenSSL, driven by datagrams and a clock."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from OpenSSL import SSL, crypto

from relay.protocols.webrtc.certificate import Certificate
from relay.protocols.webrtc.dtls_records import HANDSHAKE, MTU, announcements, split_records
from relay.protocols.webrtc.srtp import PROFILES, Srtp

MAX_HANDSHAKE: Final = 16 << 10
"""Bytes of all handshake messages that the other end announces; with a chain of certificates
they are some eight thousand."""

MAX_MESSAGES: Final = 16

_HASHES: Final = {"sha-256": "sha256", "sha-384": "sha384", "sha-512": "sha512"}
_RESEND_DELAYS: Final = (0.25, 0.5)
_REPEAT_SPACING: Final = 0.2
_READ_SIZE: Final = 1500
_MAX_FLIGHT: Final = 1 << 14  # bytes; more than OpenSSL writes at once
_KEYS: Final = b"EXTRACTOR-dtls_srtp"


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
        self._srtp: Srtp | None = None
        self._connection = SSL.Connection(certificate.context)
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
        """Those of both ends; whether there are any."""
        profile = PROFILES.get(self._connection.get_selected_srtp_profile())
        if profile is None:
            return False
        size = 2 * (profile.key + profile.salt)
        material = self._connection.export_keying_material(_KEYS, size)
        self._srtp = Srtp.of(profile, material, client=self._client)
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
        assert self._srtp is not None
        return self._srtp

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
