"""What a gateway of ours tells of a stream that is being published to it."""

from __future__ import annotations

import asyncio
import re
import ssl as tls
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import aiohttp
import orjson

from relay.errors import ConfigError

INTERVAL: Final = 1.0
TIMEOUT: Final = 3.0
MAX_ANSWER: Final = 1 << 20
OURS: Final = re.compile(r"(.*)/(?:wh[ie]p/([^/]+)|live/video-to-video/([^/]+)/whip)")
KINDS: Final = re.compile(
    r"(.*?)/(?:(watch|whip|whep)/([^/]+)|live/video-to-video/([^/]+?)(?:-out)?/(whip|whep))/?"
)
NOT_OURS: Final = 3
"""Answers in a row that are none of ours, after which nobody is asked again."""
UNOFFERED: Final = 4
"""Looks in a row at a stream whose model nobody offers, until that is told."""
NAMED: Final = 8
"""Models that are named then."""


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

    @property
    def models(self) -> str:
        return f"{self.base}/v1/models"


def check_kind(url: str, kind: str) -> None:
    """
    Args:
        kind: ``whip`` or ``whep``.

    Raises:
        ConfigError: it is an address of ours for something else; with the one that is wanted.
    """
    parts = urlsplit(url)
    path = KINDS.fullmatch(parts.path)
    if path is None or kind in (path[2], path[5]) or parts.path.endswith(f"/{kind}"):
        return
    wanted = f"{parts.scheme}://{parts.netloc}{path[1]}/{kind}/{path[3] or path[4]}"
    raise ConfigError(f"{url} is no {kind.upper()} address; of the same stream it is {wanted}")


def hint(url: str, kind: str, refusal: str) -> str:
    """ " (...)" with the form of an address of ours, where another one was refused for what it is.

    Args:
        kind: ``whip`` or ``whep``.
        refusal: the status and the server's words.
    """
    if not refusal.startswith(("404:", "405:")) or Place.of(url) is not None:
        return ""
    parts = urlsplit(url)
    form = f"{parts.scheme}://{parts.netloc}/{kind}/NAME"
    return f" (the {kind.upper()} address of a gateway's stream is {form})"


async def look(
    place: Place,
    on_change: Callable[[str], None],
    on_unoffered: Callable[[str], None] = lambda _: None,
    *,
    token: str | None = None,
    ssl: tls.SSLContext | bool = True,
) -> None:
    """Ask about once a second until cancelled, and tell each change of state in words.

    It only helps: a server that knows nothing of this is left alone, without a word.

    Args:
        on_unoffered: told once, in a sentence, when for some seconds none of the orchestrators
            that there are offers the model, and no viewer sees anything either.
    """
    last, foreign, lacking = "", 0, 0
    async with _session(token) as http:
        while foreign < NOT_OURS:
            status = await _ask(http, place.status, ssl)
            words = in_words(status) if status else ""
            foreign = 0 if status == {} or words else foreign + 1
            if words and words != last:
                last = words
                on_change(words)
            lacking = lacking + 1 if status and _is_lacking(status) else 0
            if lacking == UNOFFERED and status:
                offered = _offered(await _ask(http, place.models, ssl))
                if offered and status["model"] not in offered:
                    on_unoffered(f"no orchestrator offers “{status['model']}”: {_named(offered)}")
            await asyncio.sleep(INTERVAL)


def _is_lacking(status: Mapping[str, Any]) -> bool:
    """Nobody is found to serve it, and nothing is shown in the place of the result."""
    return (
        status.get("reason_code") == "no_orchestrator"
        and isinstance(status.get("model"), str)
        and not _is_seen(status)
    )


def _is_seen(status: Mapping[str, Any]) -> bool:
    output = status.get("output")
    return isinstance(output, dict) and bool(output.get("fps"))


def _offered(told: Any) -> list[str]:
    models = told.get("models") if isinstance(told, dict) else None
    found = [model.get("model") for model in models or () if isinstance(model, dict)]
    return [name for name in found if isinstance(name, str)]


def _named(offered: list[str]) -> str:
    more = f" and {len(offered) - NAMED} more" if len(offered) > NAMED else ""
    return f"there is {', '.join(offered[:NAMED])}{more}"


async def state_now(
    place: Place, *, token: str | None = None, ssl: tls.SSLContext | bool = True
) -> str:
    """The state in words; "" when nobody tells it."""
    async with _session(token) as http:
        return in_words(await _ask(http, place.status, ssl)) or ""


def _session(token: str | None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        headers={"Authorization": f"Bearer {token}"} if token else {},
    )


async def _ask(http: aiohttp.ClientSession, url: str, ssl: tls.SSLContext | bool) -> Any:
    """The JSON of an answer, {} when there is none now, None when it is not of ours."""
    try:
        async with http.get(url, ssl=ssl) as response:
            body = await response.content.read(MAX_ANSWER)
            if response.status >= 500:
                return {}
    except (TimeoutError, aiohttp.ClientError):
        return {}
    try:
        return orjson.loads(body) if response.status == 200 else None
    except orjson.JSONDecodeError:
        return None


def in_words(status: Any) -> str | None:
    """``live``, ``switching worker: ...``; None when this is no stream's status."""
    if not isinstance(status, dict) or not isinstance(status.get("state"), str):
        return None
    state, reason = status["state"], status.get("reason")
    if state == "switching":
        # Its pictures of a moment ago say nothing of what viewers see now.
        state = "switching worker"
        reason = str(reason or "").removeprefix(f"{state}: ")
    elif status.get("reason_code") == "no_orchestrator" and _is_seen(status):
        reason = f"{reason}; until then viewers see it unprocessed"
    if state == "failed" and isinstance(reason, str) and "trying again" in reason:
        state = "not served"
    return f"{state}: {reason}" if isinstance(reason, str) and reason else state
