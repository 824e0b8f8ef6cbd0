"""Packetised elementary streams: the layer between transport packets and access units.

ISO/IEC 13818-1 2.4.3. A transport packet is 188 bytes; a PES fills whole packets, and the
last one is made full by stuffing in its adaptation field.
"""

from __future__ import annotations

from typing import Final

from relay.media.unit import Codec

PACKET: Final = 188
SYNC: Final = 0x47
BODY: Final = PACKET - 4

PADDING: Final = b"\xff" * PACKET


def continuation_headers(pid: int) -> tuple[bytes, ...]:
    """The 16 headers of packets that go on with a PES and hold nothing but payload."""
    return tuple(bytes((SYNC, pid >> 8, pid & 0xFF, 0x10 | counter)) for counter in range(16))


def stuffed(adaptation: bytes, spare: int) -> bytes:
    """The adaptation field (its length byte first, or empty) made ``spare`` bytes longer."""
    if not spare:
        return adaptation
    if adaptation:
        return bytes((adaptation[0] + spare,)) + adaptation[1:] + PADDING[:spare]
    if spare == 1:
        return b"\x00"
    return bytes((spare - 1, 0)) + PADDING[: spare - 2]


def is_stuffed(packet: bytes) -> bool:
    """Whether the adaptation field of a packet is longer than what it says it holds."""
    if not packet[3] & 0x20:
        return False
    length = packet[4]
    if length == 0:
        return True
    flags = packet[5]
    if flags & 0x03:  # private data or an extension: its length is not looked at
        return False
    used = 1 + (6 if flags & 0x10 else 0) + (6 if flags & 0x08 else 0) + (1 if flags & 0x04 else 0)
    return length > used or flags == 0


def payload_of(packet: bytes) -> bytes | None:
    """The payload of a transport packet; None without one, or when it cannot be read."""
    control = packet[3]
    if packet[1] & 0x80 or control & 0xD0 != 0x10:  # in error, scrambled, or none
        return None
    if not control & 0x20:
        return packet[4:]
    if packet[4] >= BODY - 1:
        return None
    return packet[5 + packet[4] :]


def pes_header(stream_id: int, pts: int, size: int, room: int) -> bytes:
    """A PES header with a PTS (33 bits, 90 kHz) for ``size`` bytes of data.

    ``room`` is what the first packet has for header and data. Where the length does not
    fit its 16 bits (it is 0 then: until the next PES), one byte of header stuffing sees
    to it that the last packet is never quite full: a reader knows the end by its padding.
    """
    length = size + 8
    stuffing = b""
    if length > 0xFFFF:
        length = 0
        stuffing = b"\xff" if (size + 14 - room) % BODY == 0 else b""
    stamp = (
        (0x21 | (pts >> 29) & 0x0E) << 32
        | (pts >> 22 & 0xFF) << 24
        | (pts >> 14 & 0xFE | 1) << 16
        | (pts >> 7 & 0xFF) << 8
        | (pts << 1 & 0xFE | 1)
    )
    head = bytes((0, 0, 1, stream_id, length >> 8, length & 0xFF, 0x84, 0x80, 5 + len(stuffing)))
    return head + stamp.to_bytes(5, "big") + stuffing


class Elementary:
    """The stream of one PID, with the PES in progress.

    Attributes:
        counter: continuity counter of its last packet, None before the first.
        open: a PES is in progress.
        want: bytes of its data by its header, None when it says nothing.
        pts: of the PES in progress, 33 bits; None when it has none.
        first: the packet with its header.
        ended_by_padding: the PES before ended at a stuffed packet.
        trusts_padding: stuffing has only been seen in the last packet of a PES.
    """

    __slots__ = (
        "_parts",
        "codec",
        "counter",
        "ended_by_padding",
        "first",
        "headers",
        "open",
        "pid",
        "pts",
        "size",
        "trusts_padding",
        "want",
    )

    def __init__(self, pid: int, codec: Codec) -> None:
        self.pid = pid
        self.codec = codec
        self.headers = continuation_headers(pid)
        self.counter = -1
        self.open = False
        self.size = 0
        self.want: int | None = None
        self.pts: int | None = None
        self.first = b""
        self.ended_by_padding = False
        self.trusts_padding = True
        self._parts: list[bytes] = []

    def begin(self, packet: bytes, payload: bytes) -> bool:
        """Open a PES with the packet that has its header; False when that is malformed."""
        self.abandon()
        self.first = packet
        self.ended_by_padding = False
        if len(payload) < 9 or payload[:3] != b"\x00\x00\x01" or payload[6] & 0xC0 != 0x80:
            return False
        length, header = payload[4] << 8 | payload[5], 9 + payload[8]
        if len(payload) < header or 0 < length < header - 6:
            return False
        self.pts = None
        if payload[7] & 0x80 and payload[8] >= 5:
            self.pts = (
                (payload[9] & 0x0E) << 29
                | payload[10] << 22
                | (payload[11] & 0xFE) << 14
                | payload[12] << 7
                | payload[13] >> 1
            )
        self.want = length - (header - 6) if length else None
        self.open = True
        self.append(payload[header:])
        return True

    def take(self, data: bytes, at: int, last: int, limit: int) -> int:
        """Take the run of plain packets at ``at``: those that go on, full of payload.

        Args:
            last: where the last whole packet may start.
            limit: bytes of PES data after which to stop.

        Returns:
            Where the first packet starts that was not taken.
        """
        headers, parts, size = self.headers, self._parts, self.size
        counter = (self.counter + 1) & 15
        stop = limit if self.want is None else min(limit, self.want)
        while at <= last and size < stop and data[at : at + 4] == headers[counter]:
            parts.append(data[at + 4 : at + PACKET])
            size += BODY
            at += PACKET
            counter = (counter + 1) & 15
        self.counter = (counter - 1) & 15
        self.size = size
        return at

    def append(self, payload: bytes) -> None:
        self._parts.append(payload)
        self.size += len(payload)

    @property
    def complete(self) -> bool:
        """The length that the header gives is there."""
        return self.want is not None and self.size >= self.want

    def end(self) -> bytes:
        """Close the PES and give its data."""
        data = b"".join(self._parts)[: self.want]
        self.abandon()
        return data

    def abandon(self) -> None:
        """Close the PES and forget its data."""
        self.open = False
        self.size = 0
        self._parts.clear()
