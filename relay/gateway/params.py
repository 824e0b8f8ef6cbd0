"""Live parameters: read from a request, held against the schema, merged.

The schema comes from a seller, so it is a stranger's: it is bounded, it cannot make
us fetch anything, and what costs more than its size (regular expressions, references,
comparisons of all with all) is left to the runner.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import orjson
from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.exceptions import best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from relay.errors import BadInput, ParseError, TooLarge, Unprocessable
from relay.rpc.json_body import load_object
from relay.rpc.schema import RunnerSchema

MAX_PARAMS: Final = 32 << 10
"""Runners read one chunk of at most this many bytes (wire facts, 2.4)."""
MAX_DEPTH: Final = 16
KEPT: Final = 32
"""Schemas kept ready: to make one ready takes many times as long as to use it."""
COSTLY: Final = frozenset(
    {"pattern", "patternProperties", "$ref", "$dynamicRef", "$recursiveRef", "uniqueItems"}
)
NAMES: Final = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})
"""Keywords whose keys are names that the seller chose, not keywords."""


def read(body: bytes) -> dict[str, Any]:
    """Parse an update.

    Raises:
        TooLarge: over 32 KiB.
        BadInput: not a JSON object.
    """
    if len(body) > MAX_PARAMS:
        raise TooLarge(f"parameters are at most {MAX_PARAMS} bytes", code="params_too_large")
    try:
        return load_object(body, what="the parameters")
    except ParseError as error:
        raise BadInput(str(error), code="params_not_an_object") from error


def merge(schema: RunnerSchema | None, params: dict[str, Any], body: bytes) -> dict[str, Any]:
    """``params`` with an update on top; null gives a parameter back its default.

    Raises:
        BadInput, TooLarge, Unprocessable: of ``read`` and ``check``.
    """
    change = read(body)
    merged = {key: value for key, value in (params | change).items() if value is not None}
    check(schema.schema if schema else None, merged)
    return merged


def check(schema: dict[str, Any] | None, params: dict[str, Any]) -> None:
    """Hold ``params`` against the seller's schema; without one everything passes.

    Raises:
        Unprocessable: code ``bad_params``, with the schema's reason.
    """
    if schema is None:
        return
    # A schema that cannot be used counts as none; the runner has the last word.
    validator = _validator(orjson.dumps(_tame(schema, MAX_DEPTH)))
    if validator is None:
        return
    try:
        error = best_match(validator.iter_errors(params))
    except (Unresolvable, RecursionError, OverflowError):
        return
    if error is not None:
        raise Unprocessable(_reason(error), code="bad_params")


@lru_cache(KEPT)
def _validator(schema: bytes) -> Draft202012Validator | None:
    """Ready to use; None for what is no usable schema."""
    tame = orjson.loads(schema)
    try:
        Draft202012Validator.check_schema(tame)
    except (SchemaError, RecursionError):
        return None
    return Draft202012Validator(tame, registry=Registry())


def _reason(error: ValidationError) -> str:
    where = ".".join(str(part) for part in error.absolute_path)
    text = error.message if len(error.message) <= 500 else error.message[:500] + "…"
    return f"{where}: {text}" if where else text


def _tame(value: Any, depth: int, *, names: bool = False) -> Any:
    """The schema without its costly keywords and its deepest levels."""
    if depth == 0:
        return {}
    if isinstance(value, dict):
        return {
            key: _tame(item, depth - 1, names=key in NAMES and not names)
            for key, item in value.items()
            if names or key not in COSTLY
        }
    if isinstance(value, list):
        return [_tame(item, depth - 1) for item in value]
    return value


def dump(params: dict[str, Any]) -> bytes:
    """One control message with all parameters."""
    return orjson.dumps(params)
