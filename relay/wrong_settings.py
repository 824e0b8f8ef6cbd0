"""What is said of settings that are none, or of another kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from urllib.parse import urlsplit

from pydantic import ValidationError

from relay.wrong_values import said_of, shown

HTTP_URL = r"^https?://\S+$"
NODE_URL = r"^https?://[^\s@]+$"
ICE_URL = r"^(stun|stuns|turn|turns):[^\s@,;<>]+$"
VERSION = r"^(v?\d{1,9}(\.\d{1,9}){0,2}([-+].*)?)?$"
PRICE = r"^\d{1,30}(\.\d{1,18}|/[1-9]\d{0,29})?$"

MOST_PROCESSES = 64

SHAPES = {
    HTTP_URL: "an http:// or https:// address",
    NODE_URL: "an http:// or https:// address without a user in it",
    ICE_URL: "an address such as turn:turn.example:3478, with username and credential beside it",
    VERSION: "a version such as 0.9.1",
    PRICE: "wei a pixel such as 1200, 0.5 or 3/7",
}
"""In words, what a pattern asks for."""
REPLACED = {
    "gateway.verify_orchestrator_tls": "gateway.node_tls=ca",
    "worker.verify_tls": "worker.node_tls=ca",
}
"""Keys of before, and what says the same now."""


def in_words(
    error: ValidationError, known_keys: Callable[[Sequence[str | int]], Sequence[str]]
) -> str:
    """Every value that is wrong in a line of its own, with the reason; a single one in one line.

    Args:
        known_keys: those of a section.
    """
    unknown, wrong, missing, meant = [], [], [], set()
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if key in REPLACED:
            unknown.append(f"{key} (now {REPLACED[key]})")
        elif item["type"] in ("extra_forbidden", "invalid_key"):
            found = _elsewhere(str(item["loc"][-1]), known_keys)
            found = found or likeliest(key, known_keys(item["loc"][:-1]))
            meant.add(found)
            unknown.append(_no_value(key) + _hint(found))
        elif item["type"] == "string_pattern_mismatch":
            pattern = item["ctx"]["pattern"]
            given = shown(item["input"], key)
            wrong.append(f"{key}: {given} is not {SHAPES.get(pattern, pattern)}")
        elif item["type"] == "list_type":
            given, text = shown(str(item["input"]), key), str(item["input"])
            entry = text if given == repr(text) and re.fullmatch(r"[^\s{}]+", text) else "a, b"
            wrong.append(f"{key}: {given} is no list; write [{entry}]")
        elif item["type"] == "missing":
            missing.append((key, said_of(item)))
        else:
            wrong.append(said_of(item))
    lines = []
    if unknown:
        keys = ", ".join(unknown)
        lines.append(f"unknown keys: {keys} (relay up --print-config shows every key)")
    # Where a key is misspelt, the right one is missing: that is told already.
    lines += [*wrong, *(words for key, words in missing if key not in meant)]
    return lines[0] if len(lines) == 1 else "\n  ".join(["wrong settings:", *lines])


def _no_value(key: str) -> str:
    """Where a space is missing, YAML takes ``{key:value}`` for a key."""
    name, *value = re.split("[:=]", key, maxsplit=1)
    return f"{name}:..." if value else name


def _elsewhere(name: str, known_keys: Callable[[Sequence[str | int]], Sequence[str]]) -> str:
    """The one key, of any section, that has this name; or nothing."""
    found: list[str] = []
    sections: list[tuple[str, ...]] = [()]
    while sections:
        section = sections.pop()
        for key in known_keys(section):
            parts = tuple(key.split("."))
            sections.append(parts)
            if parts[-1] == name:
                found.append(key)
    return found[0] if len(found) == 1 else ""


def node_url(text: str) -> str:
    """A node's address, as lists of the network write it: without a scheme it is https.

    Raises:
        ValueError: it is none.
    """
    whole = text if "://" in text else f"https://{text}"
    try:
        parts = urlsplit(whole)
        well = bool(re.match(NODE_URL, whole) and parts.hostname) and parts.port != 0
    except ValueError:
        well = False
    if not well:
        given = shown(text, "")
        raise ValueError(f"{given} is not a node's address such as https://node.example:8935")
    return text


def processes(value: object) -> object:
    """A number of processes, or auto.

    Raises:
        ValueError: it is neither.
    """
    if value == "auto":
        return value
    text = str(value)
    if not (text.isdecimal() and text.isascii() and int(text) <= MOST_PROCESSES):
        raise ValueError(f"{text!r} is neither auto nor a number from 0 to {MOST_PROCESSES}")
    return int(text)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """ " (did you mean ...?)", or nothing when nothing is like it."""
    return _hint(likeliest(word, known))


def likeliest(word: str, known: Sequence[str]) -> str:
    """What is most like it, or nothing."""
    return next(iter(get_close_matches(word, known, 1)), "")


def _hint(meant: str) -> str:
    return f" (did you mean {meant}?)" if meant else ""
