"""Names and numbers of strangers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import BadInput
from relay.protocols.trickle.paths import (
    MAX_SEQUENCE,
    check_name,
    clean_mime,
    header_sequence,
    parse_exact_sequence,
    parse_sequence,
    parse_write_sequence,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("7", 7), ("007", 7), ("-1", -1), ("-2", -2), (str(MAX_SEQUENCE), MAX_SEQUENCE)],
)
def test_numbers_that_name_a_segment(text: str, value: int) -> None:
    assert parse_sequence(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "abc", "1e3", "-3", "-5", "1.0", " 1", "+1", "0x1", "1_0", "٣", "--1", "-", "..", "1\n"]
    + [str(n) for n in (MAX_SEQUENCE + 1, 2**63, -(2**63), 10**30)],
)
def test_numbers_that_name_none(text: str) -> None:
    with pytest.raises(BadInput):
        parse_sequence(text)


def test_what_may_be_written_and_deleted() -> None:
    assert parse_write_sequence("-1") == -1
    assert parse_exact_sequence("3") == 3
    with pytest.raises(BadInput):
        parse_write_sequence("-2")
    for text in ("-1", "-2", "-5"):
        with pytest.raises(BadInput):
            parse_exact_sequence(text)


@given(st.text(max_size=40))
def test_any_text_is_a_number_in_range_or_refused(text: str) -> None:
    try:
        value = parse_sequence(text)
    except BadInput:
        return
    assert -2 <= value <= MAX_SEQUENCE


@pytest.mark.parametrize("name", ["99df2831", "99df2831-out", "a", "A_b~c.d", "x" * 128])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".x", "a/b", "a\0b", "ü", "a b", "x" * 129, "x" * 4096, "a\n", "%2e"]
)
def test_names_that_no_channel_has(name: str) -> None:
    with pytest.raises(BadInput):
        check_name(name)


@pytest.mark.parametrize(
    ("text", "value"),
    [(None, None), ("", None), ("x", None), ("-1", None), ("5", 5), ("9" * 40, None)],
)
def test_numbers_in_headers_of_a_peer(text: str | None, value: int | None) -> None:
    assert header_sequence(text) == value


def test_a_content_type_that_cannot_stand_in_a_header_is_replaced() -> None:
    assert clean_mime("video/MP2T") == "video/MP2T"
    for mime in (None, "", "a\r\nX: y", "ü", "x" * 200):
        assert clean_mime(mime) == "application/octet-stream"
