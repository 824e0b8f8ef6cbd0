"""gRPC's bytes: framing in any pieces, bounds, error texts, timeouts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ParseError, TooLarge
from relay.rpc.grpc import (
    MAX_TEXT,
    MessageReader,
    decode_text,
    encode_text,
    frame,
    parse_timeout,
)


@given(
    messages=st.lists(st.binary(max_size=60), max_size=5),
    cuts=st.lists(st.integers(0, 400), max_size=10),
)
def test_messages_come_out_whole_whatever_the_pieces(
    messages: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(frame(message) for message in messages)
    reader = MessageReader(limit=60)
    out = []
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        out += reader.feed(data[start:end])
    assert out == messages
    reader.finish()


@given(st.lists(st.binary(max_size=30), max_size=20))
def test_bytes_from_strangers_never_buffer_more_than_one_message(pieces: list[bytes]) -> None:
    reader = MessageReader(limit=16)
    for piece in pieces:
        try:
            messages = reader.feed(piece)
        except (ParseError, TooLarge):
            return
        assert all(len(message) <= 16 for message in messages)
        assert reader.buffered <= 16 + 5


def test_a_message_over_the_limit_is_refused_by_its_prefix_alone() -> None:
    with pytest.raises(TooLarge):
        MessageReader(limit=10).feed(b"\0\0\0\0\x0b")


def test_compression_is_refused_by_name() -> None:
    with pytest.raises(ParseError) as caught:
        MessageReader(limit=10).feed(b"\1\0\0\0\1x")
    assert caught.value.code == "compressed"


def test_a_prefix_that_is_none_is_refused() -> None:
    with pytest.raises(ParseError) as caught:
        MessageReader(limit=10).feed(b"\x50\0\0\0\1x")
    assert caught.value.code == "grpc_frame"


def test_a_stream_that_ends_inside_a_message_is_refused() -> None:
    reader = MessageReader(limit=10)
    assert reader.feed(b"\0\0\0\0\2x") == []
    with pytest.raises(ParseError):
        reader.finish()


@given(st.text(max_size=100))
def test_an_error_text_survives_percent_encoding(text: str) -> None:
    encoded = encode_text(text)
    assert encoded.isascii()
    assert encoded.isprintable() or not encoded
    assert decode_text(encoded) == text


def test_an_error_text_is_bounded() -> None:
    assert len(encode_text("x" * 5000)) == MAX_TEXT


@given(st.text(max_size=50))
def test_any_error_text_of_a_peer_reads_as_something(value: str) -> None:
    assert isinstance(decode_text(value), str)


def test_what_is_no_escape_stays_as_it_is() -> None:
    assert decode_text("100% %zz %C3%A4 %F") == "100% %zz ä %F"


@pytest.mark.parametrize(
    ("value", "seconds"), [("5S", 5), ("250m", 0.25), ("1H", 3600), ("2M", 120), ("7u", 7e-6)]
)
def test_a_timeout_is_read_in_its_unit(value: str, seconds: float) -> None:
    assert parse_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", ["", "5", "S", "-1S", "123456789S", "5s", "٣S"])
def test_a_timeout_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ParseError):
        parse_timeout(value)
