"""Transport streams for the tests of this room: cut up, put together by hand, read."""

from __future__ import annotations

import struct

from relay.media.h264 import join_annexb
from relay.media.mpegts import Demuxer, Muxer
from relay.media.pes import BODY, PACKET, pes_header
from relay.media.psi import crc32
from relay.media.unit import AccessUnit, Codec
from tests.media.samples import nal

Key = tuple[Codec, bytes, int, bool]


def key(unit: AccessUnit) -> Key:
    return unit.codec, unit.payload, unit.pts, unit.keyframe


def pid_of(packet: bytes) -> int:
    return (packet[1] & 0x1F) << 8 | packet[2]


def packets(data: bytes, pid: int | None = None) -> list[bytes]:
    assert len(data) % PACKET == 0
    cut = [data[at : at + PACKET] for at in range(0, len(data), PACKET)]
    assert all(p[0] == 0x47 for p in cut)
    return [p for p in cut if pid is None or pid_of(p) == pid]


def muxed(*units: AccessUnit, audio: bool = True) -> bytes:
    muxer = Muxer(audio=audio)
    return muxer.tables() + b"".join(muxer.write(unit) for unit in units)


def fed(data: bytes, size: int | None = None) -> tuple[Demuxer, list[AccessUnit]]:
    demuxer = Demuxer()
    step = size or len(data) or 1
    units = []
    for at in range(0, len(data), step):
        units += demuxer.feed(data[at : at + step], 1.0)
    return demuxer, units


def clean(demuxer: Demuxer) -> bool:
    return not (
        demuxer.dropped_packets
        or demuxer.dropped_units
        or demuxer.resyncs
        or demuxer.discontinuities
    )


def pes(pid: int, data: bytes, *, counter: int = 0, tables: bool = True) -> bytes:
    """Packets by hand, the last one stuffed behind its header."""
    out = Muxer(audio=True).tables() if tables else b""
    for n, at in enumerate(range(0, len(data), BODY)):
        body = data[at : at + BODY]
        spare = BODY - len(body)
        field = bytes((spare - 1,)) + b"\0"[: spare - 1] + b"\xff" * (spare - 2) if spare else b""
        control = (0x30 if spare else 0x10) | (counter + n) & 15
        out += bytes((0x47, (0x40 if at == 0 else 0) | pid >> 8, pid & 255, control)) + field + body
    return out


def untold(payload: bytes, pts: int = 0) -> bytes:
    """A PES that does not give its length."""
    head = bytearray(pes_header(0xE0, pts, len(payload), BODY))
    head[4:6] = b"\0\0"
    return bytes(head) + payload


EXACT = join_annexb([nal(1, 2 * BODY - 14 - 5)])
"""Fills two packets to the last byte, so that nothing marks its end."""


def section(table_id: int, body: bytes) -> bytes:
    head = struct.pack(">BHH3s", table_id, 0xB000 | (len(body) + 9), 1, b"\xc1\0\0") + body
    return head + struct.pack(">I", crc32(head))


def pmt(*streams: tuple[int, int, bytes], info: bytes = b"") -> bytes:
    """A PMT of (stream_type, PID, descriptors)."""
    body = struct.pack(">HH", 0xE100, 0xF000 | len(info)) + info
    for kind, pid, descriptors in streams:
        body += struct.pack(">BHH", kind, 0xE000 | pid, 0xF000 | len(descriptors)) + descriptors
    return section(2, body)


def table_packet(pid: int, table: bytes) -> bytes:
    head = bytes((0x47, 0x40 | pid >> 8, pid & 255, 0x10, 0))
    return (head + table).ljust(PACKET, b"\xff")
