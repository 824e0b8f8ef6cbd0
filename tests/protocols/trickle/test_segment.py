"""A byte log that is read while it is written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.protocols.trickle.segment import Cursor, Segment


class Heard:
    def __init__(self) -> None:
        self.data = b""
        self.ends = 0

    def appended(self, data: bytes) -> None:
        self.data += data

    def ended(self) -> None:
        self.ends += 1


@given(st.lists(st.binary(max_size=6000), max_size=12), st.integers(1, 9000), st.integers(0, 12))
def test_a_reader_gets_every_byte_once_wherever_it_begins_to_wait(
    pieces: list[bytes], limit: int, pause: int
) -> None:
    segment, cursor, got = Segment(0), Cursor(), b""
    for index, piece in enumerate(pieces):
        segment.append(piece)
        if index >= pause:
            got += segment.read(cursor, limit)
    while data := segment.read(cursor, limit):
        assert len(data) <= limit
        got += data
    assert got == b"".join(pieces)
    assert segment.size == len(got)


def test_tiny_writes_are_merged() -> None:
    segment = Segment(0)
    for _ in range(10_000):
        segment.append(b"x")
    assert len(segment._pages) == 3


def test_skipping_leaves_only_what_comes_later() -> None:
    segment, cursor = Segment(0), Cursor()
    segment.skip(cursor)
    segment.append(b"old")
    segment.skip(cursor)
    assert segment.read(cursor, 100) == b""
    segment.append(b"new")
    assert segment.read(cursor, 100) == b"new"


def test_listeners_hear_each_piece_and_one_end() -> None:
    segment, heard, deaf = Segment(0), Heard(), Heard()
    segment.listen(heard)
    segment.listen(deaf)
    segment.append(b"a")
    segment.append(b"")
    segment.unlisten(deaf)
    segment.append(b"b")
    segment.close()
    segment.close()
    segment.append(b"c")
    assert (heard.data, heard.ends) == (b"ab", 1)
    assert (deaf.data, deaf.ends) == (b"a", 0)
    assert segment.size == 2
