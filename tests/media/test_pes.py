"""Transport packets and PES headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media.pes import (
    BODY,
    PACKET,
    Elementary,
    continuation_headers,
    is_stuffed,
    payload_of,
    pes_header,
    stuffed,
)
from relay.media.unit import Codec

PCR = bytes((7, 0x10)) + b"\0" * 6


def packet(field: bytes, control: int = 0x30) -> bytes:
    head = bytes((0x47, 1, 0, control)) + field
    return head + b"\xaa" * (PACKET - len(head))


@given(st.integers(0, 170), st.sampled_from([b"", PCR]))
def test_stuffing_makes_a_field_longer_and_is_seen(spare: int, field: bytes) -> None:
    longer = stuffed(field, spare)
    assert len(longer) == len(field) + spare
    if longer:
        assert longer[0] == len(longer) - 1
        assert is_stuffed(packet(longer)) == (spare > 0)
        assert payload_of(packet(longer)) == b"\xaa" * (BODY - len(longer))


@pytest.mark.parametrize(
    ("field", "padded"),
    [
        (b"\x00", True),
        (b"\x01\x00", True),
        (b"\x01\x40", False),  # random access, nothing else
        (b"\x02\x40\xff", True),
        (b"\x07\x10" + b"\0" * 6, False),
        (b"\x0d\x18" + b"\0" * 12, False),  # PCR and OPCR
        (b"\x02\x04\x01", False),  # splice countdown
        (b"\x05\x02\x01\xaa\xff\xff", False),  # private data: cannot be told
    ],
)
def test_what_counts_as_stuffing(field: bytes, padded: bool) -> None:
    assert is_stuffed(packet(field)) is padded
    assert not is_stuffed(packet(b"", control=0x10))


@pytest.mark.parametrize(
    "broken",
    [
        bytes((0x47, 0x81, 0, 0x10)),  # transport error
        bytes((0x47, 1, 0, 0x90)),  # scrambled
        bytes((0x47, 1, 0, 0x20, 183)),  # adaptation field only
        bytes((0x47, 1, 0, 0x00)),  # reserved
        bytes((0x47, 1, 0, 0x30, 183)),  # no room for the payload it claims
        bytes((0x47, 1, 0, 0x30, 255)),
    ],
)
def test_packets_without_a_payload(broken: bytes) -> None:
    assert payload_of(broken.ljust(PACKET, b"\0")) is None


def test_headers_of_a_pid() -> None:
    headers = continuation_headers(0x1FFF)
    assert len(headers) == 16
    assert headers[5] == b"\x47\x1f\xff\x15"


def begun(payload: bytes) -> Elementary:
    stream = Elementary(0x100, Codec.H264)
    assert stream.begin(b"", payload)
    return stream


@given(st.integers(0, (1 << 33) - 1), st.integers(0, 70_000), st.integers(150, BODY))
def test_a_header_reads_back(pts: int, size: int, room: int) -> None:
    header = pes_header(0xE0, pts, size, room)
    stream = begun(header + b"x")
    assert stream.pts == pts
    assert stream.want == (size if size + 8 <= 0xFFFF else None)
    assert stream.size == 1
    if stream.want is None:
        assert (len(header) + size - room) % BODY != 0


@pytest.mark.parametrize("size", [0xFFFF - 8, 0xFFFF - 7])
def test_the_length_is_written_when_it_fits(size: int) -> None:
    header = pes_header(0xE0, 0, size, BODY)
    assert int.from_bytes(header[4:6], "big") == (0xFFFF if size == 0xFFF7 else 0)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0\1\xe0\0\0\x80\0",
        b"\0\0\2\xe0\0\0\x80\0\0",
        b"\0\0\1\xe0\0\0\x40\0\0",  # no '10' where it must be
        b"\0\0\1\xe0\0\0\x80\0\x05abcd",  # the header goes on in another packet
        b"\0\0\1\xe0\0\x02\x80\x80\x05abcde",  # shorter than its own header
    ],
)
def test_a_malformed_header_opens_nothing(payload: bytes) -> None:
    stream = begun(pes_header(0xE0, 5, 100, BODY) + b"abc")
    assert not stream.begin(b"", payload)
    assert not stream.open
    assert stream.end() == b""


def test_a_pes_without_a_pts() -> None:
    assert begun(b"\0\0\1\xe0\0\0\x80\x00\x00abc").pts is None
    assert begun(b"\0\0\1\xe0\0\0\x80\x80\x02abc").pts is None


def test_data_is_cut_to_the_length_of_the_header() -> None:
    stream = begun(pes_header(0xE0, 5, 4, BODY) + b"ab")
    assert not stream.complete
    stream.append(b"cdef")
    assert stream.complete
    assert stream.end() == b"abcd"
    assert not stream.open
    assert stream.size == 0


class TestTake:
    RUN = b"".join(h + bytes((n,)) * BODY for n, h in enumerate(continuation_headers(0x100)))
    LAST = len(RUN) - PACKET

    def stream(self, size: int) -> Elementary:
        stream = begun(pes_header(0xE0, 5, size, BODY))
        stream.counter = 15
        return stream

    def test_a_run_ends_with_the_data(self) -> None:
        stream = self.stream(100_000)
        assert stream.take(self.RUN, 0, self.LAST, 1 << 20) == len(self.RUN)
        assert stream.counter == 15
        assert stream.size == 16 * BODY

    def test_a_run_ends_with_the_pes(self) -> None:
        stream = self.stream(2 * BODY + 1)
        assert stream.take(self.RUN, 0, self.LAST, 1 << 20) == 3 * PACKET
        assert stream.counter == 2
        assert stream.complete
        assert stream.end() == b"\0" * BODY + b"\1" * BODY + b"\2"

    def test_a_run_ends_at_the_limit(self) -> None:
        assert self.stream(100_000).take(self.RUN, 0, self.LAST, BODY + 1) == 2 * PACKET

    def test_a_run_ends_at_another_packet(self) -> None:
        stream = self.stream(100_000)
        data = self.RUN[: 2 * PACKET] + self.RUN[5 * PACKET :]
        assert stream.take(data, 0, len(data) - PACKET, 1 << 20) == 2 * PACKET
        assert stream.take(data, 2 * PACKET, len(data) - PACKET, 1 << 20) == 2 * PACKET
        assert stream.counter == 1
