"""The file of settings: what is said of one that cannot be read, in a line, with the place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

BOOLEAN: Final = "tag:yaml.org,2002:bool"
"""What YAML takes off, no and false for, without quotes."""
MERGE: Final = "tag:yaml.org,2002:merge"
DEEPEST: Final = 100


def check_file(path: Path) -> None:
    """What the reader of settings would not refuse, or in words of its own.

    Raises:
        ValueError: no such file, or it is no YAML with sections of settings, or a key stands in
            it twice, or it turns the check of certificates off in other words than that.
    """
    if not path.is_file():
        raise ValueError(f"no such configuration file: {path}")
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    try:
        document, whole = yaml.safe_load(text), yaml.compose(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {_in_a_line(error)}") from error
    except (ValueError, RecursionError) as error:  # a number or a date that is none, or too deep
        raise ValueError(f"{path} is not YAML: {error}") from error
    for words in twice(whole):
        raise ValueError(f"{path}: {words}")
    if not isinstance(document, dict | None):
        raise ValueError(f"{path} does not hold sections of settings")
    for key in document or ():
        if not isinstance(key, str):
            raise ValueError(f"{path}: {key!r} is no section of settings")
    for section, value in _entries(whole):
        for key, given in _entries(value):
            word = getattr(given, "value", "")
            if key == "node_tls" and given.tag == BOOLEAN and word != "off":
                raise ValueError(f"{section}.{key}: {word!r} is neither pin, ca nor off")


def _in_a_line(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return place + ", ".join(words for words in (error.context, error.problem) if words)


def twice(node: yaml.Node | None, path: str = "") -> Iterator[str]:
    """What is said of keys that stand there twice: all but the last would silently be lost.

    Args:
        path: of the node, before the names of its keys.
    """
    yield from _twice(node, path, set())


def _twice(node: yaml.Node | None, path: str, seen: set[int]) -> Iterator[str]:
    if node is None or id(node) in seen:  # by its alias a node may stand in itself
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, entry in enumerate(node.value):
            yield from _twice(entry, f"{path}{index}.", seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            line, name = key.start_mark.line + 1, f"{path}{key.value}"
            first = lines.get((key.tag, key.value))
            if first is not None and key.tag != MERGE:
                where = f"line {line}" if first == line else f"lines {first} and {line}"
                yield f"{name} stands there twice: in {where}"
            lines[key.tag, key.value] = line
            yield from _twice(value, f"{name}.", seen)


def carried(value: Any) -> Any:
    """Back as it is: what a setting holds that is free in its shape, if JSON can carry it.

    Raises:
        ValueError: it stands in itself by an alias, goes too deep, or holds bytes.
    """
    for path, words in _not_carried(value, "", (), set()):
        raise ValueError(f"its {path} {words}")
    return value


def _not_carried(
    value: Any, path: str, around: tuple[int, ...], done: set[int]
) -> Iterator[tuple[str, str]]:
    if id(value) in around:
        yield path, "is an alias of what it stands in, without an end"
    elif isinstance(value, bytes):
        yield path, "is no text, but bytes"
    elif len(around) > DEEPEST:
        yield path.partition(".")[0], f"goes deeper than {DEEPEST} sections"
    elif isinstance(value, dict | list) and id(value) not in done:
        within = (*around, id(value))
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _not_carried(inner, f"{path}.{key}" if path else f"{key}", within, done)
        done.add(id(value))


def _entries(node: yaml.Node | None) -> list[tuple[str, yaml.Node]]:
    """The keys and values of a mapping as they stand in the file."""
    if not isinstance(node, yaml.MappingNode):
        return []
    return [(str(key.value), value) for key, value in node.value]
