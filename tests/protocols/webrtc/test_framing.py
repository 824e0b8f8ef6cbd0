"""Datagrams in a stream, however it is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ParseError
from relay.protocols.webrtc.framing import MAX_FRAME, Deframer, frame


@given(
    st.lists(st.binary(min_size=1, max_size=MAX_FRAME), max_size=5),
    st.lists(st.integers(0, 12_000), max_size=20),
)
def test_what_is_framed_comes_out_however_it_is_cut(sent: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frame(datagram) for datagram in sent)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    frames = Deframer()
    found: list[bytes] = []
    for start, end in pairwise(places):
        found += frames.feed(stream[start:end])
    assert found == sent


@given(st.lists(st.binary(max_size=5000), max_size=10))
def test_any_bytes_are_read_or_refused_and_little_is_held(pieces: list[bytes]) -> None:
    frames = Deframer()
    for piece in pieces:
        try:
            found = frames.feed(piece)
        except ParseError:
            return
        assert all(0 < len(datagram) <= MAX_FRAME for datagram in found)
        assert len(frames._held) <= MAX_FRAME + 1


def test_an_empty_frame_is_nothing_and_a_long_one_is_refused() -> None:
    frames = Deframer()
    assert frames.feed(bytes(6) + frame(b"x")) == [b"x"]
    with pytest.raises(ParseError):
        frames.feed(b"\x08\x01")
