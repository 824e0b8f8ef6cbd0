"""``relay health URL``: what a container's health check runs, so that it needs no curl."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
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


def report(url: str, token: str | None = None, *, insecure: bool = False) -> dict[str, Any]:
    """What ``--json`` tells: the address, whether it is well, and its word or what is wrong.

    Args:
        token, insecure: as for ``ask``.

    Raises:
        ConfigError: no http(s) address.
    """
    try:
        return {"url": url, "well": True, "status": ask(url, token, insecure=insecure)}
    except PeerError as error:
        return {"url": url, "well": False, "status": error.code, "error": str(error)}


def ask(url: str, token: str | None = None, *, insecure: bool = False) -> str:
    """GET a health address, or that of a base address; returns its status word.

    Args:
        token: the gateway's publish key, for a reason with names in it. It goes to nobody
            else: with it a certificate is verified.
        insecure: send it whatever the certificate is.

    Raises:
        ConfigError: no http(s) address.
        PeerRefused: it answered, and is not well.
        PeerTimeout: it did not answer.
    """
    address.check(url)
    if urlsplit(url).path not in ("", "/"):
        return _elsewhere(url, token, insecure=insecure)
    base = url.rstrip("/")
    for path in PATHS:
        try:
            return _get(base + path, token, insecure=insecure, known=path != PATHS[0]) or "ok"
        except NotFound:
            continue
    raise PeerRefused(f"{base} has none of {', '.join(PATHS)}: it is no role of relay")


def _elsewhere(url: str, token: str | None, *, insecure: bool) -> str:
    """As ``ask``, of an address that is no base: no other answer is taken for one of health."""
    try:
        word = _get(url, token, insecure=insecure)
    except NotFound as error:
        raise PeerRefused(f"{error}{address.base_hint(url)}") from error
    if not word and not urlsplit(url).path.endswith(PATHS):
        hint = address.base_hint(url)
        raise PeerRefused(f"{url} tells of no health, as {', '.join(PATHS)} do{hint}")
    return word or "ok"


def _get(url: str, token: str | None, *, insecure: bool, known: bool = False) -> str:
    """The word of a 200, "" of one without; raises as ``ask``, and NotFound at a 404.

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
        word, why = _told(error.read(MAX_ANSWER))
        said = f": {word}" if word else ""
        hint = "" if word else address.base_hint(url)
        raise PeerRefused(f"{url} answered {error.code}{said}{why}{hint}") from error
    except (OSError, http.client.HTTPException) as error:
        asked = "certificate" in str(error).lower()
        hint = INSECURE if asked else ""
        raise address.unanswered(url, error, hint, known=known) from error
    status, why = _told(body)
    if status and status.lower() not in WELL:
        raise PeerRefused(f"{url} says {status}{why}")
    return status


def _told(body: bytes) -> tuple[str, str]:
    """The word of an answer, and its reason as words to add."""
    try:
        value = json.loads(body)
    except ValueError:
        value = None  # an answer without a word of its own
    if not isinstance(value, dict):
        return "", ""
    why = value.get("reason")
    word = value.get("status")  # in a problem (RFC 9457) a number
    return word if isinstance(word, str) else "", f": {why}" if isinstance(why, str) and why else ""
