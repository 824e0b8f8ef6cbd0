"""The live parameters of a job: always whole, always valid by the pipeline's schema. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match

from relay.errors import BadInput, ConfigError
from relay.rpc.json_body import MAX_DEPTH, is_too_deep

MAX_MESSAGE: Final = 32 * 1024
"""The largest control message; stock runners read no more than this of one."""

MAX_REASON: Final = 400


def parse_object(data: bytes) -> dict[str, Any]:
    """
    Raises:
        BadInput: it is not one JSON object of at most ``MAX_MESSAGE`` bytes, or it holds
            a number that JSON cannot (NaN, an infinity) or too many levels.
    """
    if len(data) > MAX_MESSAGE:
        raise BadInput(f"a message of more than {MAX_MESSAGE} bytes", code="too_large")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"not JSON: {error}", code="bad_json") from error
    if not isinstance(value, dict):
        raise BadInput("not a JSON object", code="bad_json")
    if is_too_deep(value):
        raise BadInput(f"more than {MAX_DEPTH} levels", code="bad_json")
    if not all(math.isfinite(number) for number in _floats(value)):
        raise BadInput("a number out of range", code="bad_json")
    return value


def _floats(value: object) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _floats(each)
    elif isinstance(value, list):
        for each in value:
            yield from _floats(each)


class Parameters:
    """The values in force, starting at the schema's defaults.

    Raises:
        ConfigError: the schema is no JSON Schema of an object, or its own defaults
            are not valid by it.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            raise ConfigError(f"the schema is not a JSON Schema: {error.message}") from error
        properties = schema.get("properties", {})
        if schema.get("type") != "object" or not isinstance(properties, Mapping):
            raise ConfigError("the schema does not describe an object")
        self._validator = Draft202012Validator(schema)
        self._defaults = {
            name: item["default"]
            for name, item in properties.items()
            if isinstance(item, Mapping) and "default" in item
        }
        self._values: dict[str, Any] = {}
        try:
            self.reset()
        except BadInput as error:
            raise ConfigError(f"the schema refuses its own defaults: {error}") from error

    @property
    def values(self) -> dict[str, Any]:
        """All of them, defaults included; a copy."""
        return dict(self._values)

    def reset(self) -> None:
        self._values = self._checked(self._defaults)

    def merged(
        self, change: Mapping[str, Any], *, onto: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """All values as they are after ``change``, which stays to be put in force.

        A name that ``change`` leaves out keeps its value; null sets it to its default.

        Args:
            onto: an earlier change that is not in force yet; default: what is in force.

        Raises:
            BadInput: code ``bad_params``, the message says which one and why.
        """
        merged = {**(self._values if onto is None else onto), **change}
        for name in [name for name, value in change.items() if value is None]:
            del merged[name]
            if name in self._defaults:
                merged[name] = self._defaults[name]
        return self._checked(merged)

    def put(self, values: Mapping[str, Any]) -> None:
        """Put in force what ``merged`` gave."""
        self._values = dict(values)

    def _checked(self, values: Mapping[str, Any]) -> dict[str, Any]:
        error = best_match(self._validator.iter_errors(values))
        if error is None:
            return dict(values)
        where = ".".join(str(part) for part in error.absolute_path)
        reason = f"{where}: {error.message}" if where else error.message
        raise BadInput(reason[:MAX_REASON], code="bad_params")
