"""The node's certificate: what stock peers ask of it, kept, renewed in time."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from relay.errors import ConfigError
from relay.rpc.certificate import (
    RENEW_BEFORE,
    VALIDITY,
    client_context,
    node_certificate,
    server_context,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names_of(path: Path) -> list[str]:
    """Who a certificate is for, each with its kind."""
    certificate = _read(path)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [f"{type(name).__name__} {name.value}" for name in names.value]


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("node.example", ["DNSName node.example"]),
        ("127.0.0.1", ["DNSName 127.0.0.1", "IPAddress 127.0.0.1"]),
        ("::1", ["DNSName ::1", "IPAddress ::1"]),
    ],
)
def test_it_names_its_host_and_may_be_its_own_root(
    tmp_path: Path, host: str, names: list[str]
) -> None:
    cert, key = node_certificate(tmp_path / "new", host, now=NOW)
    certificate = _read(cert)
    assert names_of(cert) == names
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.value.ca
    certificate.verify_directly_issued_by(certificate)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    server_context(cert, key)
    ssl.create_default_context(cafile=str(cert))


def test_it_is_kept_from_start_to_start(tmp_path: Path) -> None:
    first = node_certificate(tmp_path, "node.example", now=NOW)[0].read_bytes()
    again = node_certificate(tmp_path, "node.example", now=NOW + timedelta(days=300))
    assert again[0].read_bytes() == first


def test_it_is_renewed_before_it_ends(tmp_path: Path) -> None:
    first = node_certificate(tmp_path, "node.example", now=NOW)[0].read_bytes()
    late = NOW + VALIDITY - RENEW_BEFORE + timedelta(seconds=1)
    cert, _ = node_certificate(tmp_path, "node.example", now=late)
    assert cert.read_bytes() != first
    assert _read(cert).not_valid_after_utc == late + VALIDITY


@pytest.mark.parametrize(
    ("file", "content"),
    [("cert.pem", b""), ("cert.pem", b"\xff garbage"), ("key.pem", b"garbage")],
)
def test_a_broken_file_is_replaced(tmp_path: Path, file: str, content: bytes) -> None:
    node_certificate(tmp_path, "node.example", now=NOW)
    (tmp_path / file).write_bytes(content)
    server_context(*node_certificate(tmp_path, "node.example", now=NOW))


def test_another_host_and_a_foreign_key_get_a_new_one(tmp_path: Path) -> None:
    node_certificate(tmp_path / "a", "a.example", now=NOW)
    cert, key = node_certificate(tmp_path / "b", "a.example", now=NOW)
    key.write_bytes((tmp_path / "a" / "key.pem").read_bytes())
    server_context(*node_certificate(tmp_path / "b", "a.example", now=NOW))
    node_certificate(tmp_path / "b", "b.example", now=NOW)
    assert names_of(cert) == ["DNSName b.example"]


def test_further_names_are_in_it_once_and_a_change_of_them_makes_a_new_one(tmp_path: Path) -> None:
    also = ["localhost", "192.0.2.7", "node.example"]
    cert, _ = node_certificate(tmp_path, "node.example", also=also, now=NOW)
    assert names_of(cert) == [
        "DNSName node.example",
        "DNSName localhost",
        "DNSName 192.0.2.7",
        "IPAddress 192.0.2.7",
    ]
    first = cert.read_bytes()
    node_certificate(tmp_path, "node.example", also=also, now=NOW)
    assert cert.read_bytes() == first
    node_certificate(tmp_path, "node.example", also=["localhost"], now=NOW)
    assert names_of(cert) == ["DNSName node.example", "DNSName localhost"]


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        node_certificate(tmp_path / "file" / "data", "x", now=NOW)


def test_files_that_are_no_pair_are_named(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("garbage")
    with pytest.raises(ConfigError, match="cannot use"):
        server_context(tmp_path / "cert.pem", tmp_path / "key.pem")


def test_clients_verify_only_when_they_are_told_to() -> None:
    assert client_context().verify_mode is ssl.CERT_NONE
    verifying = client_context(verify=True)
    assert verifying.verify_mode is ssl.CERT_REQUIRED
    assert verifying.check_hostname
