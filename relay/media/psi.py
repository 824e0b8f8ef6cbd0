"""Program tables of MPEG-TS: PAT and PMT (ISO/IEC 13818-1 2.4.4), and nothing else of it."""

from __future__ import annotations

import struct
from typing import Final

from relay.media.unit import Codec

PAT_PID: Final = 0x0000
PMT_PID: Final = 0x1000
VIDEO_PID: Final = 0x0100
AUDIO_PID: Final = 0x0101

MAX_SECTION: Final = 1024
"""Bytes of a PAT or PMT section (2.4.4.5: section_length at most 1021)."""

_STREAM_TYPE_H264: Final = 0x1B
_STREAM_TYPE_PRIVATE: Final = 0x06
_REGISTRATION_OPUS: Final = b"\x05\x04Opus"
# DVB extension descriptor 0x80 with channel_config_code 2: stereo, as stock nodes write it.
_OPUS_DESCRIPTORS: Final = _REGISTRATION_OPUS + b"\x7f\x02\x80\x02"


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return tuple(table)


_CRC_TABLE: Final = _crc_table()


def crc32(data: bytes) -> int:
    """The CRC of annex A; 0 over a section that ends with its own CRC."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = ((crc << 8) & 0xFFFFFFFF) ^ _CRC_TABLE[(crc >> 24) ^ byte]
    return crc


def _section(table_id: int, extension: int, body: bytes) -> bytes:
    # version 0, current_next_indicator 1, section 0 of 0
    head = struct.pack(">BHH3s", table_id, 0xB000 | (len(body) + 9), extension, b"\xc1\x00\x00")
    return head + body + struct.pack(">I", crc32(head + body))


def pat_section() -> bytes:
    """A PAT with program 1 at PMT_PID."""
    return _section(0x00, 0, struct.pack(">HH", 1, 0xE000 | PMT_PID))


def pmt_section(*, video: bool, audio: bool) -> bytes:
    """A PMT with H.264 and/or Opus; the PCR is on the video when there is one."""
    body = struct.pack(">HH", 0xE000 | (VIDEO_PID if video else AUDIO_PID), 0xF000)
    if video:
        body += struct.pack(">BHH", _STREAM_TYPE_H264, 0xE000 | VIDEO_PID, 0xF000)
    if audio:
        size = 0xF000 | len(_OPUS_DESCRIPTORS)
        body += struct.pack(">BHH", _STREAM_TYPE_PRIVATE, 0xE000 | AUDIO_PID, size)
        body += _OPUS_DESCRIPTORS
    return _section(0x02, 1, body)


class SectionReader:
    """Puts the sections of one PID together, over several packets where need be."""

    __slots__ = ("_buffer", "_last")

    def __init__(self) -> None:
        self._buffer = b""
        self._last = b""

    def feed(self, payload: bytes, *, begins: bool) -> bytes | None:
        """The payload of one packet in; a section out, when it is whole, good and new.

        Only the first section of a packet is looked at: muxers give a PAT and a PMT
        packets of their own.
        """
        if begins:
            pointer = payload[0] if payload else 0
            self._buffer = payload[1 + pointer :]
        elif self._buffer:
            self._buffer += payload
        if len(self._buffer) < 3:
            return None
        size = 3 + ((self._buffer[1] & 0x0F) << 8 | self._buffer[2])
        if size > MAX_SECTION:
            self._buffer = b""
            return None
        if len(self._buffer) < size:
            return None
        section, self._buffer = self._buffer[:size], b""
        if section == self._last or size < 12 or crc32(section):
            return None
        self._last = section
        return section


def parse_pat(section: bytes) -> int | None:
    """The PMT's PID of the first program, or None when there is none."""
    if section[0] != 0x00:
        return None
    for at in range(8, len(section) - 7, 4):
        program, pid = struct.unpack_from(">HH", section, at)
        if program:
            return int(pid & 0x1FFF)
    return None


def parse_pmt(section: bytes) -> dict[int, Codec] | None:
    """PIDs of the first H.264 and the first Opus stream; others are left out.

    Returns:
        None when the section is not a PMT.
    """
    if section[0] != 0x02:
        return None
    end = len(section) - 4
    found: dict[Codec, int] = {}
    at = 12 + ((section[10] & 0x0F) << 8 | section[11])
    while at + 5 <= end:
        kind, pid, size = struct.unpack_from(">BHH", section, at)
        pid, size = pid & 0x1FFF, size & 0x0FFF
        descriptors = section[at + 5 : min(at + 5 + size, end)]
        at += 5 + size
        if kind == _STREAM_TYPE_H264:
            found.setdefault(Codec.H264, pid)
        elif kind == _STREAM_TYPE_PRIVATE and _has_descriptor(descriptors, _REGISTRATION_OPUS):
            found.setdefault(Codec.OPUS, pid)
    return {pid: codec for codec, pid in found.items()}


def _has_descriptor(descriptors: bytes, wanted: bytes) -> bool:
    at = 0
    while at + 2 <= len(descriptors):
        if descriptors.startswith(wanted, at):
            return True
        at += 2 + descriptors[at + 1]
    return False
