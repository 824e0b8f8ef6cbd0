"""``relay health URL``: what a container's health check runs, so that it needs no curl."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Final

from relay.errors import BadInput, PeerRefused, PeerTimeout

TIMEOUT: Final = 3.0
MAX_ANSWER: Final = 64 * 1024
WELL: Final = frozenset({"ok", "ready", "idle"})


def ask(url: str) -> str:
    """GET a health address; returns its status word.

    Raises:
        BadInput: no http(s) address.
        PeerRefused: it answered, and is not well.
        PeerTimeout: it did not answer.
    """
    if not url.startswith(("http://", "https://")):
        raise BadInput(f"{url} is no http:// or https:// address")
    # A node's own certificate: the question is whether it answers, not who it is.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT, context=context) as answer:
            body = answer.read(MAX_ANSWER)
    except urllib.error.HTTPError as error:
        raise PeerRefused(f"{url} answered {error.code}") from error
    except OSError as error:
        raise PeerTimeout(f"{url} does not answer: {error}") from error
    status = _status(body)
    if status.lower() not in WELL:
        raise PeerRefused(f"{url} says {status}")
    return status


def _status(body: bytes) -> str:
    try:
        value = json.loads(body)
    except ValueError:
        return "ok"  # an answer without a word of its own: the 200 stands
    return str(value.get("status", "ok")) if isinstance(value, dict) else "ok"
