"""From the command line, the environment and a file to one tree of settings."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from relay.cli.printed import MASK
from relay.config import Gateway, Settings, is_loopback
from relay.errors import ConfigError
from relay.settings_file import twice
from relay.wrong_settings import did_you_mean
from relay.wrong_values import shown

PREFIX = "RELAY_"


def load(
    path: Path | None, assignments: Iterable[str], flags: Mapping[str, Any] | None = None
) -> Settings:
    """Read every source.

    Args:
        path: the YAML file, if any.
        assignments: ``section.key=value`` words of ``--set``; the value is YAML.
        flags: ``section.key`` to value, from options of their own; None is left out.

    Raises:
        ConfigError: an unknown key in any source, or a value of the wrong kind.
    """
    refuse_unknown_environment(os.environ)
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set takes section.key=value, not {shown(assignment, key)}")
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise ConfigError(f"--set {key}: the value is not YAML") from error
        for words in twice(yaml.compose(text), f"{key}."):
            raise ConfigError(f"--set {words}")
        # YAML takes "no" and "off" for booleans; a key that takes words is to see the word.
        _assign(overrides, key, text.strip() if isinstance(value, bool) else value)
    for key, value in (flags or {}).items():
        if value is not None:
            _assign(overrides, key, value)
    try:
        settings = Settings.load(path, **overrides)
    except ValueError as error:  # of the environment: all else is a ConfigError by now
        raise ConfigError(_no_json(error.__cause__, os.environ)) from error
    if hidden := sorted(_masks(settings.model_dump(mode="json"), "")):
        raise ConfigError(f"a printed mask is not a secret: {', '.join(hidden)}")
    return settings


def _no_json(error: BaseException | None, environment: Mapping[str, str]) -> str:
    """Which variable it was; not what it holds, which may be a secret."""
    text = error.doc if isinstance(error, json.JSONDecodeError) else None
    names = [n for n, value in environment.items() if n.startswith(PREFIX) and value == text]
    which = ", ".join(sorted(names)) or f"a variable {PREFIX}..."
    return f'{which}: a list or a section is written in JSON there, as \'["a", "b"]\''


def _masks(value: Any, path: str) -> Iterator[str]:
    if value == MASK:
        yield path
    items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield from _masks(inner, f"{path}.{key}" if path else str(key))


def _assign(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = tree.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {key}: {section} holds a value already")
        tree = inner
    tree[last] = value


def known_variables(model: type[BaseModel] = Settings, prefix: str = PREFIX) -> set[str]:
    """The environment variables that mean something, sections included."""
    names: set[str] = set()
    for name, field in model.model_fields.items():
        variable = prefix + name.upper()
        names.add(variable)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names |= known_variables(field.annotation, variable + "__")
    return names


def refuse_unknown_environment(environment: Mapping[str, str]) -> None:
    """Name ``RELAY_*`` variables that no key answers to; a typing error is not silence."""
    known = known_variables()
    unknown = sorted(
        name
        for name in environment
        if name.upper().startswith(PREFIX) and name.upper() not in known
    )
    if unknown:
        raise ConfigError(
            "unknown environment variables: "
            + ", ".join(name + did_you_mean(name.upper(), sorted(known)) for name in unknown)
            + " (relay up --print-config shows every key)"
        )


def refuse_open_door(gateway: Gateway) -> None:
    """A gateway that strangers can reach needs a key, or a word that says open.

    Raises:
        ConfigError: code ``open_door``.
    """
    if gateway.publish_key or gateway.open:
        return
    for what, host in (("HTTP", gateway.host), ("WebRTC", gateway.webrtc.host)):
        if not is_loopback(host):
            raise ConfigError(
                f"the gateway's {what} address {host} is open to others: set a key that "
                "publishing needs (RELAY_GATEWAY__PUBLISH_KEY or gateway.publish_key), "
                "or say --open to let anyone publish",
                code="open_door",
            )
