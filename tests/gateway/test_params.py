"""Parameters are read, held against a stranger's schema, and refused in its words."""

from __future__ import annotations

from typing import Any

import pytest

from relay.errors import BadInput, TooLarge, Unprocessable
from relay.gateway.params import check, read

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "effect": {"enum": ["none", "cartoon"]},
        "strength": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "additionalProperties": False,
}


def _deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


def test_an_object_is_read() -> None:
    assert read(b'{"strength": 0.5}') == {"strength": 0.5}


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"null", b"{", b"\xff", b'{"a": NaN}'])
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput):
        read(body)


def test_too_much_is_refused() -> None:
    with pytest.raises(TooLarge) as caught:
        read(b'{"a": "' + b"x" * (32 << 10) + b'"}')
    assert caught.value.code == "params_too_large"


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"strength": 2}, "strength: 2 is greater than the maximum of 1"),
        ({"effect": "fire"}, "effect: 'fire' is not one of ['none', 'cartoon']"),
        ({"colour": 1}, "Additional properties are not allowed ('colour' was unexpected)"),
    ],
)
def test_the_reason_is_the_schemas(params: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        check(SCHEMA, params)
    assert str(caught.value) == reason
    assert caught.value.code == "bad_params"


def test_good_parameters_and_no_schema_pass() -> None:
    check(SCHEMA, {"effect": "cartoon", "strength": 1})
    check(None, {"anything": object()})


DOUBLING: dict[str, Any] = {
    "$ref": "#/$defs/0",
    "$defs": {
        str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}, {"$ref": f"#/$defs/{n + 1}"}]}
        for n in range(40)
    }
    | {"40": {}},
}
"""Each level asks twice for the next one: 2**40 looks, were references followed."""


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:1/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"properties": {"a": {"pattern": "(a+)+$"}}},
        {"properties": {"a": {"type": 7}}},
        {"properties": []},
        {"properties": {"a": {"multipleOf": 1e-300}}},
        DOUBLING,
        {"properties": {"a": _deep(900)}},
        {"properties": {"a": {"minimum": 1 << 60}}},
    ],
)
def test_a_hostile_schema_fetches_nothing_and_hangs_nothing(schema: dict[str, Any]) -> None:
    check(schema, {"a": "a" * 40 + "!"})


def test_schemas_that_differ_are_held_apart_and_a_changed_one_counts() -> None:
    schema: dict[str, Any] = {"properties": {"a": {"maximum": 1}}}
    check({"properties": {"a": {"maximum": 9}}}, {"a": 5})
    with pytest.raises(Unprocessable):
        check(schema, {"a": 5})
    schema["properties"]["a"]["maximum"] = 9
    check(schema, {"a": 5})


def test_a_parameter_may_have_the_name_of_a_keyword() -> None:
    schema = {
        "properties": {"pattern": {"enum": ["dots", "lines"]}},
        "additionalProperties": False,
    }
    check(schema, {"pattern": "dots"})
    with pytest.raises(Unprocessable, match="pattern: 'waves' is not one of"):
        check(schema, {"pattern": "waves"})


def test_comparing_all_with_all_is_left_to_the_runner() -> None:
    check(
        {"properties": {"a": {"uniqueItems": True}}},
        {"a": [{"n": n} for n in range(2000)] + [{"n": 0}]},
    )


def test_deep_parameters_are_refused() -> None:
    with pytest.raises(BadInput):
        read(b'{"a":' * 100 + b"1" + b"}" * 100)
