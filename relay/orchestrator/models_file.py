"""The runners that an orchestrator sells: from its settings, and from the network's models
file, which is taken as stock nodes have it.

Such a file is a JSON array of objects with ``pipeline``, ``model_id``, ``url``, ``token``,
``warm`` (false when absent), ``capacity`` (1 when absent) and a price in JSON numbers,
whole or not. Keys that mean nothing here (``optimization_flags``, ``gateway``, ...) are
skipped; so are entries for other pipelines. No containers are started here: an entry
without a ``url`` is for the runner of the settings, and skipped where they name none.

The short form stands in the place of a path: ``pipeline:model_id:warm``, with commas
between.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from relay.config import Orchestrator, Runner
from relay.errors import BadInput, ConfigError
from relay.rpc.address import check_url
from relay.rpc.capabilities import LIVE_PIPELINE
from relay.wrong_values import said_of

log = logging.getLogger(__name__)

MAX_FILE: Final = 4 << 20
MAX_RUNNERS: Final = 1000

_ITEM = r"\s*[a-z0-9-]+:[^:,\s]+:(?:true|false)\s*"
_SHORT: Final = re.compile(f"{_ITEM}(?:,{_ITEM})*", re.IGNORECASE)


def runners_of(settings: Orchestrator) -> tuple[Runner, ...]:
    """Every live runner of the settings and of their models file.

    Raises:
        ConfigError: the file cannot be read or is no models file, an address is none, or
            there are too many.
    """
    found = list(settings.models)
    if settings.models_file is not None:
        found += _sold(settings.models_file, settings.runner_url)
    live = [runner for runner in found if runner.pipeline == LIVE_PIPELINE]
    for runner in live:
        try:
            check_url(runner.url, what=f"url of model {runner.model_id}")
        except BadInput as error:
            raise ConfigError(str(error)) from error
    if len(live) > MAX_RUNNERS:
        raise ConfigError(f"{len(live)} runners are more than {MAX_RUNNERS}")
    return tuple(live)


def _sold(path: Path, runner_url: str | None) -> list[Runner]:
    entries = _short(str(path)) if _SHORT.fullmatch(str(path)) else _read(path)
    runners = []
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ConfigError(f"{path}: entry {place} is not an object")
        url = entry.get("url") or runner_url
        if entry.get("pipeline") != LIVE_PIPELINE or not url:
            name = f"{entry.get('pipeline')} {entry.get('model_id')}"
            log.warning("%s: entry %d (%s) is skipped: not live, or no url", path, place, name)
            continue
        runners.append(_entry({**entry, "url": url}, f"{path}: entry {place}"))
    return runners


def _short(text: str) -> list[Any]:
    entries: list[Any] = []
    for item in text.split(","):
        pipeline, model, warm = item.strip().split(":")
        entries.append({"pipeline": pipeline, "model_id": model, "warm": warm.lower() == "true"})
    return entries


def _read(path: Path) -> list[Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the models file: {error}") from error
    if len(content) > MAX_FILE:
        raise ConfigError(f"{path} is over {MAX_FILE} bytes")
    try:
        entries = json.loads(content, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise ConfigError(f"{path} is not a JSON array")
    return entries


def _entry(entry: Mapping[str, Any], where: str) -> Runner:
    price = _number(entry, "price_per_unit", 0, where) / _number(entry, "pixels_per_unit", 1, where)
    fields: dict[str, Any] = {
        "warm": False,
        **{key: entry[key] for key in Runner.model_fields if entry.get(key) is not None},
        "price_per_unit": price.numerator,
        "pixels_per_unit": price.denominator,
    }
    try:
        return Runner.model_validate(fields)
    except ValidationError as error:
        raise ConfigError(f"{where}: {said_of(error.errors()[0])}") from error


def _number(entry: Mapping[str, Any], key: str, default: int, where: str) -> Fraction:
    """A JSON number, exactly; stock nodes refuse a quoted one, and so it is here."""
    value = entry.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or value < default:
        raise ConfigError(f"{where}: {key} must be a number, {default} or more")
    return Fraction(value)
