"""The node's certificate: what stock peers ask of it, kept, renewed in time."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from relay.errors import ConfigError
from relay.rpc.certificate import (
    DAMAGED,
    TERM,
    KeptCertificate,
    Term,
    client_context,
    node_certificate,
    server_context,
)
from relay.rpc.given_certificate import GivenCertificate
from tests.network import eventually

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SHORT = Term(
    validity=timedelta(seconds=30),
    renew_before=timedelta(seconds=10),
    look=timedelta(seconds=0.02),
)


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
        ("bücher.example", ["DNSName xn--bcher-kva.example"]),
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


@pytest.mark.parametrize("term", [TERM, SHORT])
def test_it_is_renewed_before_it_ends(tmp_path: Path, term: Term) -> None:
    first = node_certificate(tmp_path, "node.example", now=NOW, term=term)[0].read_bytes()
    due = NOW + term.validity - term.renew_before
    cert, _ = node_certificate(tmp_path, "node.example", now=due - timedelta(seconds=1), term=term)
    assert cert.read_bytes() == first
    cert, _ = node_certificate(tmp_path, "node.example", now=due, term=term)
    assert cert.read_bytes() != first
    assert _read(cert).not_valid_after_utc == due + term.validity


def test_by_default_that_is_thirty_days_before_a_year_is_over() -> None:
    assert Term() == Term(timedelta(days=365), timedelta(days=30), timedelta(hours=1))


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("cert.pem", b"", "cert.pem is no certificate"),
        ("cert.pem", b"\xff garbage", "cert.pem is no certificate"),
        ("cert.pem", "the half", "cert.pem is no certificate"),
        ("cert.pem", "the key", "cert.pem is no certificate"),
        ("key.pem", b"", "key.pem is no private key"),
        ("key.pem", b"garbage", "key.pem is no private key"),
        ("key.pem", "the half", "key.pem is no private key"),
        ("key.pem", "the certificate", "key.pem is no private key"),
        ("key.pem", "another's", "key.pem is not the key of .*cert.pem"),
    ],
)
def test_a_damaged_file_is_named_and_stays(
    tmp_path: Path, file: str, content: bytes | str, words: str
) -> None:
    cert, key = node_certificate(tmp_path, "node.example", now=NOW)
    _, other = node_certificate(tmp_path / "other", "node.example", now=NOW)
    path = tmp_path / file
    whole = path.read_bytes()
    known = {
        "the half": whole[: len(whole) // 2],
        "the key": key.read_bytes(),
        "the certificate": cert.read_bytes(),
        "another's": other.read_bytes(),
    }
    wrong = content if isinstance(content, bytes) else known[content]
    path.write_bytes(wrong)
    with pytest.raises(ConfigError, match=words) as raised:
        node_certificate(tmp_path, "node.example", now=NOW)
    assert raised.value.code == DAMAGED
    assert f"remove {cert}" in str(raised.value) or f"remove {path}" in str(raised.value)
    assert path.read_bytes() == wrong


@pytest.mark.parametrize("file", ["cert.pem", "key.pem"])
def test_what_the_error_advises_helps(tmp_path: Path, file: str) -> None:
    node_certificate(tmp_path, "node.example", now=NOW)
    (tmp_path / file).unlink()
    server_context(*node_certificate(tmp_path, "node.example", now=NOW))


def test_a_key_that_others_can_read_is_closed_to_them(tmp_path: Path) -> None:
    _, key = node_certificate(tmp_path, "node.example", now=NOW)
    key.chmod(0o644)
    node_certificate(tmp_path, "node.example", now=NOW)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_another_host_gets_a_new_one(tmp_path: Path) -> None:
    node_certificate(tmp_path, "a.example", now=NOW)
    cert, key = node_certificate(tmp_path, "b.example", now=NOW)
    assert names_of(cert) == ["DNSName b.example"]
    server_context(cert, key)


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@asynccontextmanager
async def serving(kept: KeptCertificate | GivenCertificate) -> AsyncIterator[int]:
    """An echo over TLS under ``kept``; yields its port."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(100):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=kept.context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def leaf_at(port: int) -> str:
    """SHA-256 of the certificate that a new connection gets."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        client_context().wrap_socket(plain) as sock,
    ):
        return sha256(sock.getpeercert(binary_form=True) or b"").hexdigest()


def kept_leaf(folder: Path) -> str:
    pem = (folder / "cert.pem").read_text()
    return sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


async def test_a_node_that_runs_shows_the_new_one_and_old_connections_go_on(
    tmp_path: Path,
) -> None:
    clock = Clock()
    kept = KeptCertificate(tmp_path, "127.0.0.1", term=SHORT, clock=clock)
    async with serving(kept) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context())
        keeping = asyncio.create_task(kept.keep())
        try:
            first = await asyncio.to_thread(leaf_at, port)
            clock.now += SHORT.validity - SHORT.renew_before - timedelta(seconds=2)
            await asyncio.sleep(3 * SHORT.look.total_seconds())
            assert await asyncio.to_thread(leaf_at, port) == first
            clock.now += timedelta(seconds=2)
            await eventually(lambda: kept_leaf(tmp_path) != first)
            assert await asyncio.to_thread(leaf_at, port) == kept_leaf(tmp_path) != first
            writer.write(b"still here")
            assert await asyncio.wait_for(reader.readexactly(10), 5) == b"still here"
        finally:
            keeping.cancel()
            writer.close()


async def test_a_pair_that_was_put_there_while_it_runs_is_taken(tmp_path: Path) -> None:
    kept = KeptCertificate(tmp_path / "a", "127.0.0.1")
    assert kept.renew() is False
    cert, key = node_certificate(tmp_path / "b", "127.0.0.1")
    (tmp_path / "a" / "cert.pem").write_bytes(cert.read_bytes())
    with pytest.raises(ConfigError, match="is not the key of"):
        kept.renew()
    async with serving(kept) as port:
        assert await asyncio.to_thread(leaf_at, port) != kept_leaf(tmp_path / "b")
        (tmp_path / "a" / "key.pem").write_bytes(key.read_bytes())
        assert kept.renew() is True
        assert await asyncio.to_thread(leaf_at, port) == kept_leaf(tmp_path / "b")
        assert kept.renew() is False


async def test_a_renewal_that_fails_is_told_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    kept = KeptCertificate(tmp_path, "127.0.0.1", term=SHORT, clock=clock)
    key = (tmp_path / "key.pem").read_bytes()
    (tmp_path / "key.pem").write_bytes(b"garbage")
    async with serving(kept) as port:
        first = await asyncio.to_thread(leaf_at, port)
        with caplog.at_level(logging.ERROR):
            keeping = asyncio.create_task(kept.keep())
            try:
                await eventually(lambda: "key.pem is no private key" in caplog.text)
                assert await asyncio.to_thread(leaf_at, port) == first
                (tmp_path / "key.pem").write_bytes(key)
                clock.now += SHORT.validity
                await eventually(lambda: kept_leaf(tmp_path) != first)
                assert await asyncio.to_thread(leaf_at, port) == kept_leaf(tmp_path)
            finally:
                keeping.cancel()


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
