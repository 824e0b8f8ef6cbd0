"""What is said of a value that is none of its kind: one line, ``field: what is wrong``. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

MAX_SHOWN: Final = 60
SECRET: Final = re.compile("key|secret|token|credential|password")
"""What is in the name of a field whose value is not shown."""

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
    kind, name = str(item["type"]), ".".join(str(part) for part in item["loc"])
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


def _plain(limit: Any) -> Any:
    return f"{limit:g}" if isinstance(limit, float) else limit


def shown(value: Any, name: str) -> str:
    """A value as it may be printed: a secret is not, nor the whole of a long one."""
    if SECRET.search(name.rpartition(".")[2]):
        return "what is given"
    text = re.sub(r"//[^/@]*@", "//...@", repr(value))
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
