"""The effective settings as YAML a person can read, keep and load again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

MASK = "********"
SECRETS = frozenset({"publish_key", "auth_webhook_key", "token", "credential"})
# Pipelines bring settings of their own, so their secrets are told by their names.
SECRET_NAME = re.compile(r"(?i)(^|_)(password|secret|token|api_?key|credential)s?$")


def masked(value: Any, name: str = "") -> Any:
    """The same tree with every secret that is set replaced by ``MASK``."""
    if isinstance(value, dict) and name.endswith("_headers"):
        return dict.fromkeys(value, MASK)
    if isinstance(value, dict):
        return {key: masked(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [masked(inner) for inner in value]
    if value is None or isinstance(value, bool):
        return value  # a switch is no secret, whatever its name
    if name in SECRETS or SECRET_NAME.search(name):
        return MASK
    return value


def settings_yaml(settings: BaseModel) -> str:
    """Every key with what it does; secrets are masked."""
    tree = masked(settings.model_dump(mode="json"))
    return "\n".join(_section(settings, tree, "")) + "\n"


def _section(model: BaseModel, tree: dict[str, Any], indent: str) -> Iterator[str]:
    for name, field in type(model).model_fields.items():
        inner = getattr(model, name)
        if isinstance(inner, BaseModel):
            summary = (type(inner).__doc__ or "").strip().split("\n")[0]
            if summary and not summary.startswith("!"):
                yield f"{indent}# {summary}"
            yield f"{indent}{name}:"
            yield from _section(inner, tree[name], indent + "  ")
            continue
        if field.description:
            yield f"{indent}# {field.description}"
        dumped = yaml.safe_dump({name: tree[name]}, sort_keys=False, allow_unicode=True, width=1000)
        yield from (indent + line for line in dumped.rstrip("\n").split("\n"))
