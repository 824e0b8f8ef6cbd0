"""JSON bodies from other nodes: bounded, and an object at the top."""

from __future__ import annotations

from math import isfinite
from typing import Any, Final

import orjson

from relay.errors import ParseError, TooLarge

MAX_JSON: Final = 1 << 20
"""Bytes of the largest JSON body that is read."""

MAX_DEPTH: Final = 64
"""Objects and lists inside one another. What reads or writes them goes down step by step,
and has an end of its own."""

MAX_WHOLE: Final = 2**53
"""The largest whole number that every JSON reader takes exactly."""


def load_object(data: bytes, *, what: str, limit: int = MAX_JSON) -> dict[str, Any]:
    """
    Raises:
        TooLarge: over ``limit`` bytes.
        ParseError: not JSON, not an object, or one of more than ``MAX_DEPTH`` levels.
    """
    if len(data) > limit:
        raise TooLarge(f"{what} of {len(data)} bytes is over {limit}")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ParseError(f"{what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ParseError(f"{what} is not a JSON object")
    if is_too_deep(value):
        raise ParseError(f"{what} has more than {MAX_DEPTH} levels")
    return value


def is_too_deep(value: Any) -> bool:
    """Whether a JSON value has more than ``MAX_DEPTH`` objects and lists inside one another."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        level = [item for item in inner if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def dump(value: Any) -> bytes:
    """Compact JSON, keys in their own order: pages show a schema's parameters in it.

    Raises:
        ParseError: the value has no JSON form (a number that is too large, for instance).
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise ParseError(f"no JSON form: {error}") from error


def text_of(value: Any) -> str:
    """A string as it is; anything else as an empty one."""
    return value if isinstance(value, str) else ""


def number_of(value: Any) -> float:
    """A finite JSON number as it is; anything else as 0."""
    return value if _is_number(value) else 0


def whole_of(value: Any) -> int | None:
    """A JSON number as a whole one that JSON can carry; anything else as None."""
    return min(max(int(value), -MAX_WHOLE), MAX_WHOLE) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
