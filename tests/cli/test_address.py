"""What is said of an address that nobody answers at."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from relay.cli import address
from relay.errors import PeerError, PeerRefused
from relay.protocols.webrtc.client import WhepClient
from tests.protocols.trickle.wire import serve


async def _failure(url: str) -> PeerError:
    with pytest.raises(PeerError) as told:
        await WhepClient.connect(
            url, on_unit=lambda _: None, ssl=address.tls_of(insecure=True, cacert=None)
        )
    return address.unreached(url, told.value)


async def test_a_closed_port_is_told_in_few_words() -> None:
    told = await _failure("http://127.0.0.1:9/whep/cam?x=y")
    assert str(told) == "http://127.0.0.1:9 does not answer: connection refused"


async def test_the_other_scheme_is_named_to_clients_too() -> None:
    async with serve() as site:
        place = site.base.partition("://")[2].partition("/")[0]
        told = str(await _failure(f"https://{place}/whep/cam"))
    assert told.startswith(f"https://{place} does not answer: ")
    assert told.endswith(f" (try http://{place})")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"), "connection refused"),
        (OSError(errno.EHOSTUNREACH, "Connect call failed"), "no route to host"),
        (socket.gaierror(-2, "Name or service not known"), "name or service not known"),
        (OSError("Multiple exceptions: a, b"), "Multiple exceptions: a, b"),
        (ssl.SSLError(1, "[SSL] record layer failure (_ssl.c:1000)"), "[SSL] record layer failure"),
    ],
)
def test_reasons_of_the_system_are_told_without_numbers(error: OSError, words: str) -> None:
    assert str(address.unanswered("http://a", error)) == f"http://a does not answer: {words}"


def test_a_certificate_that_is_not_trusted_is_told_with_the_options_that_help() -> None:
    error = PeerError("its certificate is not trusted: self-signed", code="tls_untrusted")
    told = address.unreached("https://a/whep/b", error)
    assert str(told).startswith("its certificate is not trusted: self-signed (--cacert FILE ")
    assert "--insecure" in str(told)
    assert told.code == "tls_untrusted", "which no other try changes"


@pytest.mark.parametrize(
    "error", [PeerError("the answer is too large", code="bad_answer"), PeerRefused("503: full")]
)
def test_what_was_answered_is_left_as_it_is(error: PeerError) -> None:
    assert address.unreached("http://a/whep/b", error) is error
