"""``relay health URL``: what a container's health check runs, so that it needs no curl."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from relay.cli import address
from relay.errors import NotFound, PeerError, PeerRefused

TIMEOUT: Final = 3.0
MAX_ANSWER: Final = 64 * 1024
PATHS: Final = ("/readyz", "/healthz", "/health")
"""Where a role is asked when only its base address is given; the first that it has."""
INSECURE: Final = "--insecure sends the token all the same"
WELL: Final = frozenset({"ok", "ready", "idle"})


@dataclass(frozen=True, slots=True)
class _Told:
    """What a role says of itself; empty where it says nothing of a kind.

    Attributes:
        why: the reason, as words to add.
        warning: what it lacks though it is well.
        token: what is wrong with the token.
    """

    word: str = ""
    why: str = ""
    warning: str = ""
    token: str = ""

    @classmethod
    def of(cls, body: bytes) -> _Told:
        try:
            value = json.loads(body)
        except ValueError:
            value = None  # an answer without a word of its own
        if not isinstance(value, dict):
            return cls()
        # In a problem (RFC 9457) the status is a number.
        word, why, warning, token = (
            given if isinstance(given := value.get(key), str) else ""
            for key in ("status", "reason", "warning", "token")
        )
        return cls(word, f": {why}" if why else "", warning, token)


def report(url: str, token: str | None = None, *, insecure: bool = False) -> dict[str, Any]:
    """What ``--json`` tells: the address, whether it is well, and its word or what is wrong;
    of one that is well, what it warns of.

    Args:
        token, insecure: as for ``ask``.

    Raises:
        ConfigError: no http(s) address.
    """
    try:
        told = _ask(url, token, insecure=insecure)
        warning = {"warning": told.warning} if told.warning else {}
        return {"url": url, "well": True, "status": told.word or "ok", **warning}
    except PeerError as error:
        return {"url": url, "well": False, "status": error.code, "error": str(error)}


def ask(url: str, token: str | None = None, *, insecure: bool = False) -> str:
    """GET a health address, or that of a base address; returns its status word, and what it
    warns of.

    Args:
        token: the gateway's publish key, for a reason with names in it. It goes to nobody
            else: with it a certificate is verified.
        insecure: send it whatever the certificate is.

    Raises:
        ConfigError: no http(s) address.
        PeerRefused: it answered, and is not well, or does not know the token.
        PeerTimeout: it did not answer.
    """
    told = _ask(url, token, insecure=insecure)
    return (told.word or "ok") + (f", but {told.warning}" if told.warning else "")


def _ask(url: str, token: str | None, *, insecure: bool) -> _Told:
    address.check(url)
    if urlsplit(url).path not in ("", "/"):
        return _elsewhere(url, token, insecure=insecure)
    base = url.rstrip("/")
    for path in PATHS:
        try:
            return _get(base + path, token, insecure=insecure, known=path != PATHS[0])
        except NotFound:
            continue
    raise PeerRefused(f"{base} has none of {', '.join(PATHS)}: it is no role of relay")


def _elsewhere(url: str, token: str | None, *, insecure: bool) -> _Told:
    """As ``_ask``, of an address that is no base: no other answer is taken for one of health."""
    try:
        told = _get(url, token, insecure=insecure)
    except NotFound as error:
        raise PeerRefused(f"{error}{address.base_hint(url)}") from error
    if not told.word and not urlsplit(url).path.endswith(PATHS):
        hint = address.base_hint(url)
        raise PeerRefused(f"{url} tells of no health, as {', '.join(PATHS)} do{hint}")
    return told


def _get(url: str, token: str | None, *, insecure: bool, known: bool = False) -> _Told:
    """What a 200 tells; raises as ``ask``, and NotFound at a 404.

    Args:
        known: as for ``address.unanswered``.
    """
    asking = urllib.request.Request(url)
    context = ssl.create_default_context()
    if token:
        asking.add_unredirected_header("Authorization", f"Bearer {token}")
    if insecure or not token:
        # A node's own certificate: the question is whether it answers, not who it is.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(asking, timeout=TIMEOUT, context=context) as answer:
            known = True
            body = answer.read(MAX_ANSWER)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            error.close()
            raise NotFound(f"{url} answered 404") from error
        told = _Told.of(error.read(MAX_ANSWER))
        said = f": {told.word}" if told.word else ""
        hint = "" if told.word else address.base_hint(url)
        if told.token:
            hint += f"; of the token: {told.token}"
        raise PeerRefused(f"{url} answered {error.code}{said}{told.why}{hint}") from error
    except (OSError, http.client.HTTPException) as error:
        asked = "certificate" in str(error).lower()
        hint = INSECURE if asked else ""
        raise address.unanswered(url, error, hint, known=known) from error
    told = _Told.of(body)
    if told.word and told.word.lower() not in WELL:
        raise PeerRefused(f"{url} says {told.word}{told.why}")
    if told.token:
        raise PeerRefused(
            f"{url} says {told.word}, but of the token: {told.token}", code="key_unknown"
        )
    return told
