"""Trickle inside TLS: verified unless the caller says otherwise."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relay.errors import PeerError
from relay.protocols.trickle.client import open_session
from relay.protocols.trickle.publisher import TricklePublisher, send_whole
from relay.protocols.trickle.subscriber import TrickleSubscriber
from tests.protocols.trickle.wire import serve


def certificate(directory: Path, *, address: str = "127.0.0.1", days: int = 1) -> Path:
    """A self-signed certificate and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=10))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "node.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def serving(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


async def test_segments_travel_inside_tls(tmp_path: Path) -> None:
    path = certificate(tmp_path)
    trusted = ssl.create_default_context(cafile=str(path))
    async with serve(ssl=serving(path)) as site, open_session() as session:
        site.server.create("ch", "video/MP2T")
        for context in (trusted, False):
            publisher = TricklePublisher(session, site.base + "ch", ssl=context)
            subscriber = TrickleSubscriber(session, site.base + "ch", start=0, ssl=context)
            site.server.create("ch", "video/MP2T")
            await publisher.open()
            for n in range(3):
                writer = publisher.begin()
                writer.write(b"a" * 50_000)
                segment = await anext(aiter(subscriber))
                assert segment.sequence == n
                writer.write(b"b")
                writer.end()
                assert await segment.read(1 << 20) == b"a" * 50_000 + b"b"
            last = publisher.begin()
            last.write(b"c")
            await anext(aiter(subscriber))
            last.abort()
            await send_whole(publisher, b"after the abort")
            await publisher.close()
            await subscriber.close()


@pytest.mark.parametrize(
    ("address", "days", "trust"),
    [
        ("127.0.0.1", 1, False),
        ("127.0.0.1", -1, True),
        ("192.0.2.1", 1, True),
    ],
    ids=["self-signed", "expired", "another host"],
)
async def test_a_certificate_that_is_not_good(
    tmp_path: Path, address: str, days: int, trust: bool
) -> None:
    path = certificate(tmp_path, address=address, days=days)
    context = ssl.create_default_context(cafile=str(path) if trust else None)
    async with serve(ssl=serving(path)) as site, open_session() as session:
        site.server.create("ch", "video/MP2T")
        publisher = TricklePublisher(session, site.base + "ch", ssl=context)
        with pytest.raises(PeerError) as error:
            await publisher.open()
        assert error.value.code == "untrusted"
        subscriber = TrickleSubscriber(session, site.base + "ch", ssl=context)
        with pytest.raises(PeerError) as error:
            await anext(aiter(subscriber))
        assert error.value.code == "untrusted"
        await publisher.close(delete=False)
        await subscriber.close()
