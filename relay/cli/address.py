"""Addresses as people type them, and what is said of those that do not do."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.parse import urlsplit

from relay.errors import ConfigError, PeerError, PeerTimeout, foreign_words
from relay.rpc.certificate import client_context

SCHEMES: Final = ("http", "https")
NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})
"""OpenSSL's reasons for an answer that is none in TLS."""
TRUSTING: Final = (
    "--cacert FILE trusts the gateway's own certificate, --insecure does not ask for one"
)


def check(text: str) -> None:
    """
    Raises:
        ConfigError: no http(s) address; with the likely one where only the scheme is missing.
    """
    try:
        parts = urlsplit(text)
        well = parts.scheme in SCHEMES and bool(parts.hostname)
    except ValueError:
        well = False
    if not well:
        hint = "" if "://" in text else f": write {likely(text)}"
        raise ConfigError(f"{text} is no http:// or https:// address{hint}")


def tls_of(*, insecure: bool, cacert: Path | str | None) -> ssl.SSLContext | bool:
    """How an https gateway is known: by any certificate, by these, or by the system's.

    Raises:
        ConfigError: ``cacert`` is no file of certificates.
    """
    if insecure:
        return client_context()
    if cacert is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(cacert))
    except OSError as error:
        raise ConfigError(f"--cacert {cacert}: {error.strerror or error}") from error


def base_hint(url: str) -> str:
    """ " (...)" with the base address, where more was given than that."""
    parts = urlsplit(url)
    if parts.path in ("", "/"):
        return ""
    return f" (the base address is {parts.scheme}://{parts.netloc})"


def likely(text: str) -> str:
    """The address that was meant by one without a scheme."""
    return text if "://" in text else f"http://{text}"


def unanswered(url: str, error: Exception, hint: str = "", *, known: bool = False) -> PeerTimeout:
    """Nobody answered, or not by the protocol of the address.

    Args:
        hint: what may help, where it is not the other scheme.
        known: it has answered by this scheme before: that it hangs up says nothing of it.
    """
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        words = f"its certificate is not trusted: {cause.verify_message}"
    elif isinstance(cause, BaseException):
        words = _words(cause)
    else:
        words = cause
    likely_help = _other_scheme(url, cause, known=known) or hint
    told = f" ({likely_help})" if likely_help else ""
    return PeerTimeout(f"{url} does not answer: {words}{told}")


def unreached(url: str, error: PeerError, *, known: bool = False) -> PeerError:
    """As ``unanswered`` with the base address, where that is why an offer to ``url`` failed, and
    with the options that help where its certificate is not trusted; else the same."""
    if error.code == "tls_untrusted":
        return PeerError(f"{error} ({TRUSTING})", code=error.code)
    cause = error.__cause__
    if error.code != PeerError.default_code or not isinstance(cause, OSError):
        return error
    parts = urlsplit(url)
    cause = getattr(cause, "os_error", cause)  # aiohttp's own words are of its objects
    return unanswered(f"{parts.scheme}://{parts.netloc}", cause, known=known)


def _words(error: BaseException) -> str:
    """The system's reason alone, where it is one."""
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno:
        named = isinstance(error, socket.gaierror)  # with numbers of its own
        words = error.strerror if named else os.strerror(error.errno)
        return words.lower() if words else foreign_words(error)
    return foreign_words(error)


def _other_scheme(url: str, cause: object, *, known: bool) -> str:
    parts = urlsplit(url)
    if parts.scheme == "https":
        other = isinstance(cause, ssl.SSLError) and cause.reason in NO_TLS
    else:
        # A server of TLS hangs up on what is none, or answers in bytes that are no HTTP.
        hung_up = isinstance(cause, ConnectionResetError)
        other = not known if hung_up else isinstance(cause, http.client.BadStatusLine)
    scheme = "http" if parts.scheme == "https" else "https"
    return f"try {scheme}://{parts.netloc}" if other else ""
