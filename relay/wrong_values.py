"""What is said of a value that is none of its kind: one line, ``field: what is wrong``. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

MAX_SHOWN: Final = 60
HIDDEN: Final = "what is given"
SECRET: Final = re.compile("key(?!frame)|secret|token|credential|password|header")
"""What is in the name of a field whose value is not shown."""
HOLDS_SECRET: Final = re.compile(
    r"(?i)(key|secret|token|credential|password|headers|authorization)['\"]?\s*[:=]|bearer |basic "
)
"""What is in a value that is not shown, whatever its field: a section at a wrong place."""
HEADERS: Final = re.compile(r"(.*_headers)\.(.*)", re.DOTALL)
HEADER: Final = re.compile("[A-Za-z0-9-]{1,60}")

_KINDS: Final[Mapping[str, str]] = {
    "int": "is no whole number",
    "float": "is no number",
    "finite": "is no number",
    "bool": "is neither true nor false",
    "string": "is no text",
    "list": "is no list",
    "path": "is no path",
    "dict": "is no section of keys with values",
    "model": "is no section of keys with values",
}
_WORDS: Final[Mapping[str, str]] = {
    "missing": "it is missing",
    "extra_forbidden": "there is no such field",
    "greater_than": "{given} is not above {gt}",
    "greater_than_equal": "{given} is below {ge}",
    "less_than": "{given} is not below {lt}",
    "less_than_equal": "{given} is above {le}",
    "literal_error": "{given} is not {expected}",
    "string_too_short": "{given} is too short: the least is {min_length}",
    "string_too_long": "it is too long: the most is {max_length}",
}


def said_of(item: Mapping[str, Any]) -> str:
    """
    Args:
        item: one of ``ValidationError.errors()``.
    """
    kind, name = str(item["type"]), name_of(item)
    given = shown(item["input"], name)
    if (words := _WORDS.get(kind)) is not None:
        limits = {key: _plain(limit) for key, limit in item.get("ctx", {}).items()}
        what = words.format(given=given, **limits)
    elif (what_not := _KINDS.get(kind.partition("_")[0])) is not None:
        what = f"{given} {what_not}"
    else:
        # Pydantic's "Value error, ..." before the words of a rule of ours says nothing.
        what = str(item["msg"]).removeprefix("Value error, ")
        what = re.sub("^Input should be ", "it has to be ", what)
    return f"{name}: {what}" if name else what


def name_of(item: Mapping[str, Any]) -> str:
    """The field. A header is named where that can be no value: one without a value may be a
    secret that was meant to be it.

    Args:
        item: as of ``said_of``.
    """
    name = ".".join(str(part) for part in item["loc"])
    if (header := HEADERS.fullmatch(name)) is None:
        return name
    named = item["input"] is not None and HEADER.fullmatch(header[2])
    return name if named else header[1]


def _plain(limit: Any) -> Any:
    return f"{limit:g}" if isinstance(limit, float) else limit


def shown(value: Any, name: str) -> str:
    """A value as it may be printed: a secret is not, nor the whole of a long one."""
    text = without_user(repr(value))
    if SECRET.search(name.replace("[key]", "")) or HOLDS_SECRET.search(text):
        return HIDDEN
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def without_user(address: str) -> str:
    """As it may be printed: a password may stand before the host."""
    return re.sub("(//|(?:stun|turn)s?:).*@", r"\1...@", address, flags=re.DOTALL)
