"""The heartbeat's body and its answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.errors import PeerError
from relay.policy.heartbeat import body, terminated


def test_ids_are_told_once_and_nothing_is_null() -> None:
    assert json.loads(body(["b", "a", "b"])) == {"ids": ["a", "b"]}
    assert json.loads(body([])) == {"ids": None}


def test_the_answer_names_who_must_end() -> None:
    assert terminated({"terminatedStreamIds": ["a", "b"]}) == {"a", "b"}
    assert terminated({"terminatedStreamIds": None}) == terminated({}) == frozenset()


@pytest.mark.parametrize("value", ["a", {"a": 1}, [1], [None], 7])
def test_what_is_no_list_of_ids_ends_nothing(value: Any) -> None:
    with pytest.raises(PeerError) as caught:
        terminated({"terminatedStreamIds": value})
    assert caught.value.code == "heartbeat_answer"
