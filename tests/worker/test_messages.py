from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ParseError
from relay.worker.messages import (
    MAX_LINE,
    Beat,
    Configure,
    Ended,
    Loaded,
    LogLine,
    Message,
    Refused,
    Start,
    Started,
    Stop,
    parse,
    serialise,
)


@pytest.mark.parametrize(
    "message",
    [
        Configure(
            pipelines=[{"model_id": "a", "entry": "b:C", "settings": {}}],
            bitrate=1,
            keyframe_interval=2.0,
            node_tls="pin",
            node_ca=None,
            reach="auto",
            beat=0.5,
        ),
        Start({"model_id": "a"}, "10.0.0.1", "10.0.0.2"),
        Stop("enough"),
        Loaded({"a": {"error": "no"}}),
        Beat(1.5),
        Started(),
        Refused("bad_params", "no"),
        Ended("over", failed=True),
        LogLine(20, "relay", "text\nof two lines"),
    ],
)
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    line = serialise(message)
    assert line.count(b"\n") == 1
    assert parse(line) == message


def test_an_unknown_field_is_left_out() -> None:
    assert parse(b'{"kind":"stop","reason":"a","new":1}') == Stop("a")


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b'{"kind":"stop"}', b'{"kind":[]}', b"\xff"])
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(ParseError):
        parse(line)


def test_a_message_without_a_form_or_a_bound_is_refused() -> None:
    with pytest.raises(ParseError):
        serialise(Start({"a": object()}))
    with pytest.raises(ParseError):
        serialise(Stop("x" * MAX_LINE))


@given(st.binary(max_size=100))
def test_any_bytes_parse_or_are_refused(line: bytes) -> None:
    with contextlib.suppress(ParseError):
        parse(line)
