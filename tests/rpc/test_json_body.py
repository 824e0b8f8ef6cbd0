"""JSON of other nodes: how deep it may go."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ParseError
from relay.rpc.json_body import MAX_DEPTH, dump, is_too_deep, load_object

LEAVES = st.none() | st.integers(-5, 5) | st.text(max_size=2)


def nested(levels: int, *, lists: bool = False) -> Any:
    value: Any = 1
    for number in range(levels):
        value = [value] if lists and number < levels - 1 else {"a": value}
    return value


@pytest.mark.parametrize("lists", [False, True])
def test_levels_are_counted_to_the_last(lists: bool) -> None:
    good = dump(nested(MAX_DEPTH, lists=lists))
    assert load_object(good, what="x") == nested(MAX_DEPTH, lists=lists)
    with pytest.raises(ParseError, match="levels"):
        load_object(dump(nested(MAX_DEPTH + 1, lists=lists)), what="x")
    with pytest.raises(ParseError):
        load_object(b'{"a":' * 1000 + b"1" + b"}" * 1000, what="x")


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_what_passes_can_be_written_again(value: Any) -> None:
    assert not is_too_deep(value)
    assert load_object(dump({"a": value}), what="x") == {"a": value}


def test_a_wide_value_is_not_a_deep_one() -> None:
    assert not is_too_deep([[{}] * 1000] * 1000)
