"""The node's own certificate, and the TLS contexts of both sides.

Peers take a node's certificate as they find it: stock gateways verify nothing, the
network's Python SDK pins what it sees first and uses it as its own root. So it is
self-signed, may act as an authority, and names the host both as DNS and, where it is one,
as an IP address. It is kept from start to start and renewed before it ends, also while
the node runs: connections that are made after that see the new one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from relay.errors import ConfigError

log = logging.getLogger(__name__)

DAMAGED: Final = "certificate_damaged"
SERVER_ALPN: Final = ("http/1.1", "h2")
"""In this order: a stock gateway then sends REST as HTTP/1.1, and its gRPC as HTTP/2
whichever of the two is selected. Without any, it does not connect."""


@dataclass(frozen=True, slots=True)
class Term:
    """How long a certificate of ours lasts.

    Attributes:
        validity: from when it is made.
        renew_before: how long before its end the next one is made.
        look: how often a running node looks.
    """

    validity: timedelta = timedelta(days=365)
    renew_before: timedelta = timedelta(days=30)
    look: timedelta = timedelta(hours=1)


TERM: Final = Term()


def _wall_clock() -> datetime:
    return datetime.now(UTC)


def node_certificate(
    data_dir: Path,
    host: str,
    *,
    also: Sequence[str] = (),
    now: datetime | None = None,
    term: Term | None = None,
) -> tuple[Path, Path]:
    """The node's certificate and key, made when there is none that will do.

    One is made anew when a file is missing, or it is for other names, or its end is near.
    Files that are damaged are not overwritten: they may be all that is left of something.

    Args:
        host: the name that it is made out to.
        also: further names and addresses that the node is reached by.

    Returns:
        Paths of ``cert.pem`` and ``key.pem`` in ``data_dir``; only the owner can read
        the key.

    Raises:
        ConfigError: ``certificate_damaged`` when a file is no certificate or no key, or
            they do not belong together: the message names it. ``config`` when the folder
            or a file in it cannot be read or written.
    """
    now, term = now or _wall_clock(), term or TERM
    cert_path, key_path = data_dir / "cert.pem", data_dir / "key.pem"
    wanted = _alternative_names(host, also)
    try:
        if not _will_do(cert_path, key_path, wanted, now, term):
            data_dir.mkdir(parents=True, exist_ok=True)
            certificate, key = self_signed(host, now, also, validity=term.validity)
            # The key first: a certificate in place means that both are.
            cert_path.unlink(missing_ok=True)
            _replace(key_path, key, mode=0o600)
            _replace(cert_path, certificate, mode=0o644)
        elif key_path.stat().st_mode & 0o077:
            key_path.chmod(0o600)
    except OSError as error:
        raise ConfigError(f"cannot keep the node's certificate in {data_dir}: {error}") from error
    return cert_path, key_path


class KeptCertificate:
    """A node's certificate in use: a TLS context that always has one that is valid.

    Args:
        data_dir, host, also, term: as for ``node_certificate``.
        alpn: as for ``server_context``.
        clock: tells the time, with its zone.

    Raises:
        ConfigError: as ``node_certificate``.
    """

    def __init__(
        self,
        data_dir: Path,
        host: str,
        *,
        also: Sequence[str] = (),
        alpn: Sequence[str] = SERVER_ALPN,
        term: Term | None = None,
        clock: Callable[[], datetime] = _wall_clock,
    ) -> None:
        self._data_dir, self._host, self._also = data_dir, host, tuple(also)
        self._term, self._clock = term or TERM, clock
        pair = self._files()
        self.context = server_context(*pair, alpn=alpn)
        self._served = pair[0].read_bytes()

    def renew(self) -> bool:
        """Put another certificate in the context, if it is time for one, or if there is
        another one in the folder. Connections that are open keep what they have.

        Raises:
            ConfigError: as ``node_certificate``; the context is as it was.
        """
        pair = self._files()
        found = pair[0].read_bytes()
        if found == self._served:
            return False
        serve_from_now_on(self.context, *pair)
        self._served = found
        return True

    async def keep(self) -> None:
        """Look once an hour, for as long as the node runs. A failure is logged, and the
        next look is another try."""
        while True:
            await asyncio.sleep(self._term.look.total_seconds())
            try:
                if self.renew():
                    log.info("the node's certificate was renewed")
            except (ConfigError, OSError, ssl.SSLError) as error:
                log.error("the node's certificate cannot be renewed: %s", error)

    def _files(self) -> tuple[Path, Path]:
        return node_certificate(
            self._data_dir, self._host, also=self._also, now=self._clock(), term=self._term
        )


def self_signed(
    host: str, now: datetime, also: Sequence[str] = (), *, validity: timedelta = TERM.validity
) -> tuple[bytes, bytes]:
    """A P-256 certificate for ``host`` (and ``also``), and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_alternative_names(host, also)), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def server_context(cert: Path, key: Path, *, alpn: Sequence[str] = SERVER_ALPN) -> ssl.SSLContext:
    """
    Raises:
        ConfigError: the files are no certificate and its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use {cert} and {key}: {error}") from error
    context.set_alpn_protocols(list(alpn))
    return context


def serve_from_now_on(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    """Put another pair into a context that is in use; open connections keep what they have.

    Raises:
        ConfigError: the files are no certificate and its key; the context is as it was.
    """
    # Tried on a context that nobody uses: a failure half way would leave one without a key
    # that fits.
    server_context(cert, key)
    context.load_cert_chain(cert, key)


def client_context(*, verify: bool = False, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """For calls to other nodes. The one place where verification is left out, as it is
    in the network: nodes have self-signed certificates.

    Args:
        verify: against the system's authorities.
        alpn: ``("h2",)`` for gRPC; nothing for HTTP/1.1.
    """
    if verify:
        context = ssl.create_default_context()
    else:
        # Without the system's authorities, which take longer to load than a call takes.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _alternative_names(host: str, also: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for name in dict.fromkeys((host, *also)):
        # As it is on the wire; an address has no letters to encode.
        names.append(x509.DNSName(name if name.isascii() else name.encode("idna").decode()))
        try:
            names.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            continue
    return names


def _will_do(
    cert_path: Path, key_path: Path, wanted: list[x509.GeneralName], now: datetime, term: Term
) -> bool:
    if not (cert_path.exists() and key_path.exists()):
        return False
    try:
        certificate = x509.load_pem_x509_certificate(cert_path.read_bytes())
        names = _names_in(certificate)
    except ValueError as error:
        raise _damaged(f"{cert_path} is no certificate", cert_path) from error
    try:
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _damaged(f"{key_path} is no private key", key_path) from error
    if key.public_key() != certificate.public_key():
        raise _damaged(f"{key_path} is not the key of {cert_path}", cert_path)
    return (
        names == wanted
        and certificate.not_valid_before_utc <= now
        and now < certificate.not_valid_after_utc - term.renew_before
    )


def names_of(certificate: x509.Certificate) -> list[str]:
    """The names and addresses that it is made for, as they are written."""
    return list(dict.fromkeys(str(name.value) for name in _names_in(certificate)))


def is_for(certificate: x509.Certificate, host: str) -> bool:
    """Whether whoever verifies takes it for ``host`` (RFC 9525: alternative names only, an
    asterisk for the whole first label)."""
    wanted = (host if host.isascii() else host.encode("idna").decode()).lower()
    try:
        return x509.IPAddress(ip_address(wanted)) in _names_in(certificate)
    except ValueError:
        names = [name.value.lower() for name in _names_in(certificate) if _is_dns(name)]
    return wanted in names or f"*.{wanted.partition('.')[2]}" in names


def _is_dns(name: x509.GeneralName) -> bool:
    return isinstance(name, x509.DNSName)


def _names_in(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(found.value)


def _damaged(what: str, path: Path) -> ConfigError:
    return ConfigError(
        f"{what}; put the right one there, or remove {path} to have a new pair made",
        code=DAMAGED,
    )


def _replace(path: Path, content: bytes, *, mode: int) -> None:
    """Write beside, then move over: nobody ever reads half a file."""
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        # A power cut must not leave an empty file under the name.
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
