"""Events by HTTP: a JSON list of envelopes, signed where a secret is set.

``Relay-Signature: t=<seconds>,v1=<hex>`` is HMAC-SHA256 over ``<seconds>.<body>``; a reader
refuses a time that is too old, and so replays.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from typing import Final

import aiohttp

from relay.errors import PeerRefused
from relay.rpc.http import call

TIMEOUT: Final = 5.0
MAX_ANSWER: Final = 64 << 10


def signature(secret: str, body: bytes, now: int) -> str:
    """
    Args:
        now: seconds since the epoch.
    """
    text = b"%d." % now + body
    return f"t={now},v1={hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()}"


class EventWebhook:
    """
    Args:
        secret: what the body is signed with; None leaves it unsigned.
    """

    name = "webhook"

    def __init__(self, http: aiohttp.ClientSession, url: str, secret: str | None) -> None:
        self._http = http
        self._url = url
        self._secret = secret

    async def send(self, batch: Sequence[tuple[str, bytes]]) -> None:
        """
        Raises:
            PeerError: not reached, not answered in time, or not answered with a 2xx.
        """
        body = b"[" + b",".join(text for _, text in batch) + b"]"
        headers = {"Content-Type": "application/json"}
        if self._secret is not None:
            headers["Relay-Signature"] = signature(self._secret, body, int(time.time()))
        answer = await call(
            self._http,
            "POST",
            self._url,
            timeout=TIMEOUT,
            limit=MAX_ANSWER,
            headers=headers,
            body=body,
        )
        if not 200 <= answer.status < 300:
            raise PeerRefused(f"it answered {answer.status}", code=f"http_{answer.status}")

    async def close(self) -> None:
        """The client session is the gateway's."""
