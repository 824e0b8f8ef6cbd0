"""The node's own certificate, and the TLS contexts of both sides.

Peers take a node's certificate as they find it: stock gateways verify nothing, the
network's Python SDK pins what it sees first and uses it as its own root. So it is
self-signed, may act as an authority, and names the host both as DNS and, where it is one,
as an IP address.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from relay.errors import ConfigError

VALIDITY: Final = timedelta(days=365)
RENEW_BEFORE: Final = timedelta(days=30)
SERVER_ALPN: Final = ("http/1.1", "h2")
"""In this order: a stock gateway then sends REST as HTTP/1.1, and its gRPC as HTTP/2
whichever of the two is selected. Without any, it does not connect."""


def node_certificate(
    data_dir: Path, host: str, *, also: Sequence[str] = (), now: datetime | None = None
) -> tuple[Path, Path]:
    """The node's certificate and key, made when there is none that will do.

    One is made anew when it is missing, unreadable, for other names, or within 30
    days of its end.

    Args:
        host: the name that it is made out to.
        also: further names and addresses that the node is reached by.

    Returns:
        Paths of ``cert.pem`` and ``key.pem`` in ``data_dir``.

    Raises:
        ConfigError: the folder cannot be written.
    """
    now = now or datetime.now(UTC)
    cert_path, key_path = data_dir / "cert.pem", data_dir / "key.pem"
    try:
        if not _will_do(cert_path, key_path, _alternative_names(host, also), now):
            data_dir.mkdir(parents=True, exist_ok=True)
            certificate, key = self_signed(host, now, also)
            # The key first: a certificate in place means that both are.
            cert_path.unlink(missing_ok=True)
            _replace(key_path, key, mode=0o600)
            _replace(cert_path, certificate, mode=0o644)
    except OSError as error:
        raise ConfigError(f"cannot keep the node's certificate in {data_dir}: {error}") from error
    return cert_path, key_path


def self_signed(host: str, now: datetime, also: Sequence[str] = ()) -> tuple[bytes, bytes]:
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
        .not_valid_after(now + VALIDITY)
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
        names.append(x509.DNSName(name))
        try:
            names.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            continue
    return names


def _will_do(
    cert_path: Path, key_path: Path, wanted: list[x509.GeneralName], now: datetime
) -> bool:
    if not (cert_path.is_file() and key_path.is_file()):
        return False
    try:
        certificate = x509.load_pem_x509_certificate(cert_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return (
        key.public_key() == certificate.public_key()
        and list(names.value) == wanted
        and certificate.not_valid_before_utc <= now
        and now < certificate.not_valid_after_utc - RENEW_BEFORE
    )


def _replace(path: Path, content: bytes, *, mode: int) -> None:
    """Write beside, then move over: nobody ever reads half a file."""
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    beside.replace(path)
