"""The two tables of a transport stream."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media import psi
from relay.media.psi import SectionReader, crc32, parse_pat, parse_pmt, pat_section, pmt_section
from relay.media.unit import Codec
from tests.media.samples import capture
from tests.media.transport import pmt, section


def test_the_crc_of_a_captured_table() -> None:
    pat = capture("input-0")[5:21]
    assert crc32(pat) == 0
    assert crc32(pat[:-4]) == int.from_bytes(pat[-4:], "big")


def test_our_tables_are_those_of_a_stock_node() -> None:
    stock = capture("input-av-0")
    assert stock[5:].startswith(pat_section())
    assert stock[188 + 5 :].startswith(pmt_section(video=True, audio=True))
    silent = capture("input-0")
    assert silent[188 + 5 :].startswith(pmt_section(video=True, audio=False))


def test_tables_read_back() -> None:
    assert parse_pat(pat_section()) == psi.PMT_PID
    both = {psi.VIDEO_PID: Codec.H264, psi.AUDIO_PID: Codec.OPUS}
    assert parse_pmt(pmt_section(video=True, audio=True)) == both
    assert parse_pmt(pmt_section(video=False, audio=True)) == {psi.AUDIO_PID: Codec.OPUS}
    assert parse_pmt(pmt_section(video=True, audio=False)) == {psi.VIDEO_PID: Codec.H264}


OPUS = b"\x05\x04Opus"


def test_streams_of_other_kinds_are_left_out() -> None:
    table = pmt(
        (0x0F, 0x110, b"\x0a\x04eng\x00"),  # AAC, with a language
        (0x24, 0x111, b""),  # HEVC
        (0x06, 0x112, b"\x05\x04AC-3"),
        (0x06, 0x113, b"\x0a\x04eng\x00" + OPUS + b"\x7f\x02\x80\x02"),
        (0x06, 0x114, OPUS),
        (0x1B, 0x115, b""),
        (0x1B, 0x116, b""),
        info=b"\x05\x04HDMV",
    )
    assert parse_pmt(table) == {0x113: Codec.OPUS, 0x115: Codec.H264}


def test_other_tables_are_no_tables() -> None:
    assert parse_pat(pmt_section(video=True, audio=True)) is None
    assert parse_pmt(pat_section()) is None


def test_the_network_program_is_no_program() -> None:
    network = struct.pack(">HH", 0, 0xE010)
    assert parse_pat(section(0, network)) is None
    assert parse_pat(section(0, network + struct.pack(">HH", 7, 0xE123))) == 0x123
    assert parse_pat(section(0, b"")) is None


def test_lengths_that_lie() -> None:
    table = pmt((0x1B, 0x100, b""), (0x06, 0x101, OPUS))
    assert parse_pmt(table[:10] + b"\xff\xff" + table[12:]) == {}
    longer = bytearray(table)
    longer[15:17] = b"\xff\xff"
    assert parse_pmt(bytes(longer)) == {0x100: Codec.H264}
    assert parse_pmt(pmt((0x06, 0x101, b"\x05"))) == {}


class TestSectionReader:
    def test_a_section_in_one_packet_is_given_once(self) -> None:
        reader = SectionReader()
        payload = b"\0" + pat_section() + b"\xff" * 40
        assert reader.feed(payload, begins=True) == pat_section()
        assert reader.feed(payload, begins=True) is None
        other = pmt_section(video=True, audio=True)
        assert reader.feed(b"\0" + other, begins=True) == other
        assert reader.feed(payload, begins=True) == pat_section()

    def test_a_section_over_packets_and_behind_a_pointer(self) -> None:
        table = pmt(*[(0x06, 0x200 + n, b"\x0a\x04eng\x00") for n in range(40)], (0x1B, 0x50, b""))
        reader = SectionReader()
        assert len(table) == 461
        assert reader.feed(b"\x03abc" + table[:1], begins=True) is None
        assert reader.feed(table[1:185], begins=False) is None
        assert reader.feed(table[185:369], begins=False) is None
        assert reader.feed(table[369:] + b"\xff" * 92, begins=False) == table

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"\0",
            b"\xff" + pat_section(),
            b"\0" + pat_section()[:-1] + b"\x99",
            b"\0\x00\xbf\xff" + b"\0" * 150,  # longer than any section
            b"\0\x00\xb0\x05" + b"\0" * 150,  # shorter than its own head
        ],
    )
    def test_what_is_no_section(self, payload: bytes) -> None:
        reader = SectionReader()
        assert reader.feed(payload, begins=True) is None
        assert reader.feed(b"\x47" * 184, begins=False) is None
        assert reader.feed(b"\0" + pat_section(), begins=True) == pat_section()

    def test_a_packet_that_goes_on_with_nothing(self) -> None:
        assert SectionReader().feed(pat_section(), begins=False) is None

    @given(st.lists(st.tuples(st.binary(max_size=184), st.booleans()), max_size=20))
    def test_bytes_of_strangers(self, packets: list[tuple[bytes, bool]]) -> None:
        reader = SectionReader()
        for payload, begins in packets:
            found = reader.feed(payload, begins=begins)
            assert found is None or crc32(found) == 0


@given(st.binary(min_size=12, max_size=200), st.sampled_from([0, 2, 66]))
def test_sections_of_strangers(body: bytes, table_id: int) -> None:
    table = bytes((table_id,)) + body
    pid = parse_pat(table)
    assert pid is None or 0 <= pid < 0x2000
    listed = parse_pmt(table)
    assert listed is None or len(listed) <= 2
