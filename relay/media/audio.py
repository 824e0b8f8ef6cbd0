"""Opus packets, seen from outside: how long they last (RFC 6716)."""

from __future__ import annotations

from typing import Final

from relay.errors import ParseError

OPUS_CLOCK: Final = 48_000
"""Ticks a second of Opus timestamps, whatever its audio bandwidth (RFC 7587 4.1)."""

MAX_DURATION: Final = 5760
"""120 ms, the longest packet (RFC 6716 3.2.5, R5)."""

# Frame durations in samples by TOC config (RFC 6716 table 2): SILK, hybrid, CELT.
_FRAME_SAMPLES: Final = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4


def opus_duration(packet: bytes) -> int:
    """Samples at 48 kHz in one Opus packet (RFC 6716 3.1).

    Raises:
        ParseError: empty, without its frame count byte, no frame, or over 120 ms.
    """
    if not packet:
        raise ParseError("an empty Opus packet")
    toc = packet[0]
    code = toc & 3
    if code == 0:
        frames = 1
    elif code < 3:
        frames = 2
    elif len(packet) < 2:
        raise ParseError("an Opus packet without its frame count")
    else:
        frames = packet[1] & 0x3F
    samples = frames * _FRAME_SAMPLES[toc >> 3]
    if not 0 < samples <= MAX_DURATION:
        raise ParseError(f"an Opus packet of {samples} samples")
    return samples
