"""Opus in a PES: packets, each behind a control header (Xiph's draft "Opus in MPEG-TS")."""

from __future__ import annotations

from typing import Final

from relay.errors import ParseError
from relay.media.audio import OPUS_CLOCK, opus_duration
from relay.media.unit import VIDEO_CLOCK, AccessUnit, Codec

MAX_OPUS_PACKETS: Final = 128
"""Opus packets of one PES; of the shortest ones (2.5 ms), that is 320 ms."""


def opus_packets(data: bytes, pts: int, arrival: float, units: list[AccessUnit]) -> None:
    """Append the Opus packets of one PES; those before a malformed one count.

    Raises:
        ParseError: a control header or packet is malformed, or there are too many.
    """
    at = 0
    for _ in range(MAX_OPUS_PACKETS):
        if at == len(data):
            return
        at, end = _opus_header(data, at)
        packet = data[at:end]
        samples = opus_duration(packet)
        units.append(AccessUnit(Codec.OPUS, packet, pts, arrival))
        pts += samples * VIDEO_CLOCK // OPUS_CLOCK
        at = end
    raise ParseError("too many Opus packets in a PES")


def _opus_header(data: bytes, at: int) -> tuple[int, int]:
    """Start and end of the packet behind the control header at ``at``."""
    if data[at : at + 1] != b"\x7f" or len(data) < at + 3 or data[at + 1] & 0xE0 != 0xE0:
        raise ParseError("no Opus control header")
    flags = data[at + 1]
    at += 2
    size = 0
    while at < len(data) and data[at] == 0xFF:
        size += 255
        at += 1
    if at < len(data):
        size += data[at]
    at += 1 + (2 if flags & 0x10 else 0) + (2 if flags & 0x08 else 0)  # the two trims
    if flags & 0x04:  # an extension, with its length
        at += 1 + (data[at] if at < len(data) else 0)
    if at + size > len(data):
        raise ParseError("an Opus packet is cut short")
    return at, at + size
