"""What a gateway of ours tells of a stream that is being published to it."""

from __future__ import annotations

import asyncio
import re
import ssl as tls
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import aiohttp
import orjson

INTERVAL: Final = 1.0
TIMEOUT: Final = 3.0
MAX_ANSWER: Final = 1 << 20
OURS: Final = re.compile(r"(.*)/(?:wh[ie]p/([^/]+)|live/video-to-video/([^/]+)/whip)")
NOT_OURS: Final = 3
"""Answers in a row that are none of ours, after which nobody is asked again."""


@dataclass(frozen=True, slots=True)
class Place:
    """A stream's place at a gateway: the base of its addresses, and its name."""

    base: str
    name: str

    @classmethod
    def of(cls, url: str) -> Place | None:
        """Read off a WHIP or WHEP address; None when it has not the form of ours."""
        parts = urlsplit(url)
        path = OURS.fullmatch(parts.path)
        if path is None or not parts.netloc:
            return None
        return cls(f"{parts.scheme}://{parts.netloc}{path[1]}", unquote(path[2] or path[3]))

    @property
    def watch(self) -> str:
        """The address of the page to watch it on."""
        return f"{self.base}/watch/{quote(self.name)}"

    @property
    def status(self) -> str:
        return f"{self.base}/v1/streams/{quote(self.name)}"


async def look(
    place: Place,
    on_change: Callable[[str], None],
    *,
    token: str | None = None,
    ssl: tls.SSLContext | bool = True,
) -> None:
    """Ask about once a second until cancelled, and tell each change of state in words.

    It only helps: a server that knows nothing of this is left alone, without a word.
    """
    last, foreign = "", 0
    async with _session(token) as http:
        while foreign < NOT_OURS:
            words = await _ask(http, place.status, ssl)
            foreign = foreign + 1 if words is None else 0
            if words and words != last:
                last = words
                on_change(words)
            await asyncio.sleep(INTERVAL)


async def state_now(
    place: Place, *, token: str | None = None, ssl: tls.SSLContext | bool = True
) -> str:
    """The state in words; "" when nobody tells it."""
    async with _session(token) as http:
        return await _ask(http, place.status, ssl) or ""


def _session(token: str | None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        headers={"Authorization": f"Bearer {token}"} if token else {},
    )


async def _ask(http: aiohttp.ClientSession, url: str, ssl: tls.SSLContext | bool) -> str | None:
    """The state in words, "" when there is none now, None when the answer is not of ours."""
    try:
        async with http.get(url, ssl=ssl) as response:
            body = await response.content.read(MAX_ANSWER)
            if response.status >= 500:
                return ""
    except (TimeoutError, aiohttp.ClientError):
        return ""
    try:
        return in_words(orjson.loads(body)) if response.status == 200 else None
    except orjson.JSONDecodeError:
        return None


def in_words(status: Any) -> str | None:
    """``live``, ``switching worker: ...``; None when this is no stream's status."""
    if not isinstance(status, dict) or not isinstance(status.get("state"), str):
        return None
    state, reason = status["state"], status.get("reason")
    if state == "switching":
        state = "switching worker"
    elif state == "failed" and isinstance(reason, str) and "trying again" in reason:
        state = "not served"
    return f"{state}: {reason}" if isinstance(reason, str) and reason else state
