"""The list of orchestrators that a webhook gives: ``[{"address": "https://..", "score": 1}]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import orjson

from relay.errors import BadInput, ParseError, PeerError, PeerRefused, TooLarge
from relay.market.sources import MAX_LISTED, Listed, Roll
from relay.rpc.address import NodeAddress
from relay.rpc.http import call
from relay.rpc.json_body import number_of

TIMEOUT: Final = 3.0
MAX_BODY: Final = 1 << 20
MAX_NAMED: Final = 256
"""Capabilities that are kept of one entry."""
MAX_NAME: Final = 512


def parse_list(body: bytes, *, limit: int = MAX_BODY) -> Roll:
    """The entries, the best score first; what is none is skipped and counted.

    Raises:
        TooLarge: over ``limit`` bytes.
        ParseError: not a JSON array.
    """
    return roll(load_array(body, limit=limit))


def load_array(body: bytes, *, limit: int) -> list[Any]:
    """As ``parse_list``, but the bare array."""
    if len(body) > limit:
        raise TooLarge(f"a list of {len(body)} bytes is over {limit}")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ParseError(f"the list of orchestrators is not JSON: {error}") from error
    if not isinstance(value, list):
        raise ParseError("the list of orchestrators is no JSON array")
    return value


def roll(items: list[Any]) -> Roll:
    entries: list[Listed] = []
    for item in items:
        entry = _entry(item)
        if entry is not None and len(entries) < MAX_LISTED:
            entries.append(entry)
    ordered = sorted(entries, key=lambda entry: -entry.score)
    return Roll(tuple(ordered), skipped=len(items) - len(entries))


def _entry(item: Any) -> Listed | None:
    address = item.get("address") if isinstance(item, dict) else None
    if not isinstance(address, str):
        return None
    try:
        NodeAddress.parse(address)
    except BadInput:
        return None
    return Listed(address.strip(), number_of(item.get("score")), _names(item.get("capabilities")))


def _names(value: Any) -> tuple[str, ...]:
    named = value[:MAX_NAMED] if isinstance(value, list) else []
    return tuple(name for name in named if isinstance(name, str) and len(name) <= MAX_NAME)


async def fetch_list(
    session: aiohttp.ClientSession, url: str, *, headers: Mapping[str, str] | None = None
) -> Roll:
    """GET the list, within 3 seconds.

    Raises:
        PeerRefused: answered with another status than 200.
        PeerError: unreachable, too late (PeerTimeout), or no list (``peer_answer``).
    """
    answer = await call(session, "GET", url, timeout=TIMEOUT, limit=MAX_BODY, headers=headers)
    if answer.status != 200:
        raise PeerRefused(f"GET {url} answered {answer.status}: {answer.text}")
    try:
        return parse_list(answer.body)
    except (BadInput, TooLarge) as error:
        raise PeerError(f"GET {url}: {error}", code="peer_answer") from error
