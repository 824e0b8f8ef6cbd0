"""RTP packets (RFC 3550), their header extensions (RFC 8285) and retransmissions (RFC 4588)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final

from relay.errors import ParseError

HEADER: Final = Struct("!BBHII")
"""First byte, marker and payload type, sequence number, timestamp, SSRC."""

HEADER_SIZE: Final = 12
MARKER: Final = 0x80
ONE_BYTE: Final = 0xBEDE
TWO_BYTE: Final = 0x1000

_VERSION: Final = 0x80
_PADDING: Final = 0x20
_EXTENSION: Final = 0x10
_TWO_BYTES = Struct("!HH")
_FOUR = Struct("!IIII")
_SEQUENCE = Struct("!H")


@dataclass(slots=True)
class RtpPacket:
    """One RTP packet, decrypted.

    Attributes:
        extension: the header extension without its four leading bytes; its
            elements are read by ``element``.
        profile: the 16 bits that say how ``extension`` is written; 0 when there is none.
        payload: without padding; empty for a packet that only probes the path.
    """

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    profile: int = 0
    extension: bytes = b""
    csrcs: tuple[int, ...] = ()

    def element(self, identifier: int) -> bytes | None:
        """The extension element of that id, or None."""
        for found, value in elements(self.profile, self.extension):
            if found == identifier:
                return value
        return None

    def serialise(self) -> bytes:
        first = _VERSION | len(self.csrcs)
        middle = b"".join(ssrc.to_bytes(4, "big") for ssrc in self.csrcs)
        if self.profile:
            first |= _EXTENSION
            extension = self.extension + bytes(-len(self.extension) % 4)
            middle += _TWO_BYTES.pack(self.profile, len(extension) // 4) + extension
        second = self.payload_type | (MARKER if self.marker else 0)
        header = HEADER.pack(first, second, self.sequence, self.timestamp, self.ssrc)
        return header + middle + self.payload


def parse_rtp(data: bytes) -> RtpPacket:
    """Read one packet.

    Raises:
        ParseError: another version, or a CSRC list, an extension or a padding that
            reaches past the packet's end.
    """
    size = len(data)
    if size < HEADER_SIZE:
        raise ParseError("RTP packet is shorter than its header")
    first, second, sequence, timestamp, ssrc = HEADER.unpack_from(data)
    if first & 0xC0 != _VERSION:
        raise ParseError("RTP version is not 2")
    start = HEADER_SIZE
    profile = 0
    extension = b""
    csrcs: tuple[int, ...] = ()
    if first & 0x0F:
        start += 4 * (first & 0x0F)
        if start > size:
            raise ParseError("RTP CSRC list is cut off")
        csrcs = tuple(
            int.from_bytes(data[at : at + 4], "big") for at in range(HEADER_SIZE, start, 4)
        )
    if first & _EXTENSION:
        if start + 4 > size:
            raise ParseError("RTP header extension is cut off")
        profile, words = _TWO_BYTES.unpack_from(data, start)
        after = start + 4 + 4 * words
        if after > size:
            raise ParseError("RTP header extension is longer than the packet")
        extension = data[start + 4 : after]
        start = after
    end = size
    if first & _PADDING:
        padding = data[-1]
        if padding == 0 or padding > size - start:
            raise ParseError("RTP padding is longer than the payload")
        end -= padding
    return RtpPacket(
        second & 0x7F,
        second >= MARKER,
        sequence,
        timestamp,
        ssrc,
        data[start:end],
        profile,
        extension,
        csrcs,
    )


def elements(profile: int, extension: bytes) -> Iterator[tuple[int, bytes]]:
    """Identifier and value of each extension element; what is cut off is left out."""
    one_byte = profile == ONE_BYTE
    if not one_byte and profile & 0xFFF0 != TWO_BYTE:
        return
    at = 0
    size = len(extension)
    while at < size:
        head = extension[at]
        at += 1
        if head == 0:  # padding between elements
            continue
        if one_byte:
            identifier = head >> 4
            length = (head & 0x0F) + 1
            if identifier == 15:  # RFC 8285 4.2: everything behind it is ignored
                return
        else:
            if at >= size:
                return
            identifier = head
            length = extension[at]
            at += 1
        if at + length > size:
            return
        yield identifier, extension[at : at + length]
        at += length


def pack_elements(values: dict[int, bytes]) -> tuple[int, bytes]:
    """Write extension elements in the shortest form that holds them.

    Returns:
        Profile and extension, as ``RtpPacket`` keeps them (padded to whole words).
    """
    small = all(1 <= key <= 14 and 1 <= len(value) <= 16 for key, value in values.items())
    if small:
        body = b"".join(bytes([key << 4 | len(value) - 1]) + value for key, value in values.items())
    else:
        body = b"".join(bytes([key, len(value)]) + value for key, value in values.items())
    return ONE_BYTE if small else TWO_BYTE, body + bytes(-len(body) % 4)


def transport_sequence(packet: RtpPacket, identifier: int) -> int | None:
    """The transport-wide sequence number of a packet, where it carries one.

    Browsers write it first: that place is looked at before the general search.
    """
    extension = packet.extension
    first = identifier << 4 | 1
    if packet.profile == ONE_BYTE and len(extension) >= 4 and extension[0] == first:
        return extension[1] << 8 | extension[2]
    value = packet.element(identifier)
    if value is None or len(value) < 2:
        return None
    return value[0] << 8 | value[1]


def unwrap_rtx(packet: RtpPacket, payload_type: int, ssrc: int) -> RtpPacket | None:
    """The packet that a retransmission carries (RFC 4588 section 4).

    Returns:
        The original packet, or None when there is none in it: senders also use the
        retransmission stream for padding.
    """
    payload = packet.payload
    if len(payload) < 2:
        return None
    return RtpPacket(
        payload_type,
        packet.marker,
        payload[0] << 8 | payload[1],
        packet.timestamp,
        ssrc,
        payload[2:],
        packet.profile,
        packet.extension,
    )


def wrap_rtx(sequence: int, payload: bytes) -> bytes:
    """The payload of a retransmission of the packet with that sequence number."""
    return _SEQUENCE.pack(sequence) + payload


def is_rtcp(data: bytes) -> bool:
    """Whether a datagram of a multiplexed port is RTCP (RFC 5761 section 4)."""
    return len(data) >= 2 and 192 <= data[1] <= 223


def fresh_ssrcs() -> list[int]:
    """Four that are random, and unlike."""
    while True:
        ssrcs = list(_FOUR.unpack(secrets.token_bytes(_FOUR.size)))
        if len({0, *ssrcs}) == 5:
            return ssrcs
