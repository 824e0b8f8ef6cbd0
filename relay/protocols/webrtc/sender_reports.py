"""The sender reports in what one sender of media says by RTCP."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

from relay.protocols.webrtc.rtcp import SENDER_REPORT, SenderReport, parse_compound

_LONE: Final = bytes([0x80, SENDER_REPORT, 0, 6])  # without a block about what it receives
_SIZE: Final = 28
_FIELDS: Final = Struct("!IQI")


class Clock(NamedTuple):
    """Of ``ssrc``: the 64-bit NTP time at which its RTP clock showed ``timestamp``."""

    ssrc: int
    ntp: int
    timestamp: int


class SenderReports:
    """Once a second a sender tells its clock, and behind it the same of itself each time: that
    is read once."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest: bytes | None = None

    def read(self, data: bytes) -> Sequence[Clock]:
        """
        Raises:
            ParseError: as ``parse_compound``.
        """
        lone = data[:4] == _LONE and len(data) >= _SIZE
        if lone and data[_SIZE:] == self._rest:
            return (Clock(*_FIELDS.unpack_from(data, 4)),)
        packets = parse_compound(data)
        if lone:
            self._rest = data[_SIZE:]
        return [
            Clock(packet.ssrc, packet.ntp, packet.timestamp)
            for packet in packets
            if isinstance(packet, SenderReport)
        ]
