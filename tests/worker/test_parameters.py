from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import BadInput, ConfigError
from relay.worker.parameters import MAX_MESSAGE, Parameters, parse_object

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "effect": {"enum": ["none", "cartoon"], "default": "none"},
        "strength": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5},
        "prompt": {"type": "string"},
    },
    "additionalProperties": False,
}


def test_they_start_at_the_defaults() -> None:
    assert Parameters(SCHEMA).values == {"effect": "none", "strength": 0.5}


def test_a_change_keeps_what_it_does_not_name() -> None:
    parameters = Parameters(SCHEMA)
    parameters.put(parameters.merged({"strength": 1}))
    parameters.put(parameters.merged({"effect": "cartoon"}))
    assert parameters.values == {"effect": "cartoon", "strength": 1}


def test_null_goes_back_to_the_default_or_away() -> None:
    parameters = Parameters(SCHEMA)
    parameters.put(parameters.merged({"strength": 1, "prompt": "a cat"}))
    assert parameters.merged({"strength": None, "prompt": None}) == Parameters(SCHEMA).values


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"strength": 3}, "strength: 3 is greater than the maximum of 1"),
        ({"strength": "high"}, "strength: 'high' is not of type 'number'"),
        ({"strength": True}, "not of type"),
        ({"effect": "melt"}, "effect: 'melt' is not one of"),
        ({"nothing": 1}, "unexpected"),
    ],
)
def test_a_bad_change_is_refused_in_words_and_changes_nothing(
    change: dict[str, Any], word: str
) -> None:
    parameters = Parameters(SCHEMA)
    with pytest.raises(BadInput, match=word) as raised:
        parameters.merged(change)
    assert raised.value.code == "bad_params"
    assert parameters.values == Parameters(SCHEMA).values


def test_a_reason_is_bounded() -> None:
    with pytest.raises(BadInput) as raised:
        Parameters(SCHEMA).merged({"effect": "x" * 10_000})
    assert len(str(raised.value)) <= 400


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array"},
        {"type": "object", "properties": []},
        {"type": "object", "properties": {"a": {"type": "nothing"}}},
        {"type": "object", "properties": {"a": {"type": "number", "default": "b"}}},
        {"type": "object", "required": ["a"]},
    ],
)
def test_a_schema_that_cannot_work_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Parameters(schema)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"1", b"null", b'{"a":NaN}', b'{"a":1e999}', b'{"a":[{"b":-1e999}]}']
    + [b'{"a":' * levels + b"1" + b"}" * levels for levels in (100, 900, 5000)],
)
def test_a_message_that_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        parse_object(data)


def test_a_message_over_the_bound_is_refused() -> None:
    fits = b'{"a":"' + b"x" * (MAX_MESSAGE - 8) + b'"}'
    assert parse_object(fits)
    with pytest.raises(BadInput):
        parse_object(fits + b" ")


@given(st.binary(max_size=200) | st.text().map(lambda text: b'{"a":' + text.encode() + b"}"))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(BadInput):
        assert isinstance(parse_object(data), dict)


@given(
    st.dictionaries(
        st.sampled_from(["effect", "strength", "prompt", "other"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        max_size=4,
    )
)
def test_what_is_in_force_is_always_valid(change: dict[str, Any]) -> None:
    parameters = Parameters(SCHEMA)
    try:
        parameters.put(parameters.merged(change))
    except BadInput:
        assert parameters.values == Parameters(SCHEMA).values
    assert parameters.merged({}) == parameters.values
