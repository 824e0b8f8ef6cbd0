"""Clients that are none of ours, as the network's other programs are made of them: grpcio,
`http.client`, and TLS sockets that offer what they like."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import grpc
from cryptography import x509

from tests.orchestrator.doubles import Desk


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def _unverified(alpn: list[str] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn is not None:
        context.set_alpn_protocols(alpn)
    return context


async def http11(
    url: str,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    alpn: list[str] | None = None,
) -> Answer:
    """A request by `http.client`; without ``alpn`` its TLS offers none."""
    place = urlsplit(url)

    def run() -> Answer:
        connection: http.client.HTTPConnection
        if place.scheme == "https":
            connection = http.client.HTTPSConnection(
                place.netloc, timeout=8, context=_unverified(alpn)
            )
        else:
            connection = http.client.HTTPConnection(place.netloc, timeout=8)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        answer = Answer(response.status, found, response.read())
        connection.close()
        return answer

    return await asyncio.to_thread(run)


def leaf_of(url: str, alpn: list[str]) -> tuple[bytes, str | None]:
    """The certificate (PEM) of a server, and what it selected."""
    place = urlsplit(url)
    with (
        socket.create_connection((place.hostname or "", place.port or 0), timeout=5) as plain,
        _unverified(alpn).wrap_socket(plain) as sock,
    ):
        der = sock.getpeercert(binary_form=True)
        assert der is not None
        return ssl.DER_cert_to_PEM_cert(der).encode(), sock.selected_alpn_protocol()


def name_in(pem: bytes) -> str:
    """The first DNS name that a certificate is for, else its first address."""
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    dns = names.value.get_values_for_type(x509.DNSName)
    addresses = names.value.get_values_for_type(x509.IPAddress)
    return dns[0] if dns else str(addresses[0])


async def grpcio(one: Desk, method: str, message: bytes, **options: Any) -> bytes:
    """A call by grpcio; over TLS it trusts the leaf that it finds there, under the name
    in it, as the network's SDK does.

    Raises:
        grpc.RpcError: what grpcio makes of a refusal.
    """
    place = urlsplit(one.url)

    def run() -> bytes:
        if place.scheme == "https":
            leaf, _ = leaf_of(one.url, ["h2"])
            channel = grpc.secure_channel(
                place.netloc,
                grpc.ssl_channel_credentials(leaf),
                [("grpc.ssl_target_name_override", name_in(leaf))],
            )
        else:
            channel = grpc.insecure_channel(place.netloc)
        with channel:
            remote = channel.unary_unary(f"/net.Orchestrator/{method}")
            answer: bytes = remote(message, timeout=5, **options)
            return answer

    return await asyncio.to_thread(run)
