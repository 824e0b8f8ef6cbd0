"""RTCP packets (RFC 3550, 4585, 5104): one small value each, with parse and serialise.

Transport-wide feedback is in ``congestion``: it is a format of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from relay.errors import ParseError

SENDER_REPORT: Final = 200
RECEIVER_REPORT: Final = 201
SOURCE_DESCRIPTION: Final = 202
GOODBYE: Final = 203
TRANSPORT_FEEDBACK: Final = 205
PAYLOAD_FEEDBACK: Final = 206

NACK_FORMAT: Final = 1
TWCC_FORMAT: Final = 15
PLI_FORMAT: Final = 1
FIR_FORMAT: Final = 4
APPLICATION_FORMAT: Final = 15

_CNAME: Final = 1
_MAX_SEQUENCES: Final = 1024  # browsers ask for 1000 at most, and no sender keeps as many
_MAX_PACKETS: Final = 32  # of a compound; browsers send five
_HEADER = Struct("!BBH")
_SSRC = Struct("!I")
_SSRCS = Struct("!II")
_SENDER = Struct("!IQIII")
_BLOCK = Struct("!IIIIII")
_NACK = Struct("!HH")
_FIR = Struct("!IB3x")


def pack_packet(kind: int, count: int, body: bytes) -> bytes:
    """One RTCP packet; ``body`` is padded to whole words by its writer."""
    return _HEADER.pack(0x80 | count, kind, len(body) // 4) + body


class ReportBlock(NamedTuple):
    """What a receiver tells about one SSRC (RFC 3550 section 6.4.1).

    Attributes:
        fraction_lost: lost since the last report, in 1/256.
        lost: cumulative, signed 24 bits.
        highest: extended highest sequence number.
        jitter: in ticks of the RTP clock.
        last_report: middle 32 bits of the NTP time of the last sender report, 0 if none.
        delay: since that report, in 1/65536 s.
    """

    ssrc: int
    fraction_lost: int
    lost: int
    highest: int
    jitter: int
    last_report: int
    delay: int

    @classmethod
    def parse(cls, data: bytes, at: int) -> ReportBlock:
        ssrc, loss, highest, jitter, last_report, delay = _BLOCK.unpack_from(data, at)
        lost = loss & 0xFFFFFF
        if lost & 0x800000:
            lost -= 1 << 24
        return cls(ssrc, loss >> 24, lost, highest, jitter, last_report, delay)

    def serialise(self) -> bytes:
        lost = max(-0x800000, min(0x7FFFFF, self.lost)) & 0xFFFFFF
        return _BLOCK.pack(
            self.ssrc,
            self.fraction_lost << 24 | lost,
            self.highest & 0xFFFFFFFF,
            self.jitter & 0xFFFFFFFF,
            self.last_report,
            self.delay & 0xFFFFFFFF,
        )


_LONE: Final = bytes([0x81, RECEIVER_REPORT, 0, 7])


def lone_report(data: bytes) -> ReportBlock | None:
    """The one block of a compound that is a receiver report of one block, and nothing else.

    It is what a viewer sends most, and read in less than half the time so.
    """
    if len(data) != 32 or data[:4] != _LONE:
        return None
    return ReportBlock.parse(data, 8)


def _blocks(data: bytes, at: int, count: int) -> tuple[ReportBlock, ...]:
    if at + count * _BLOCK.size > len(data):
        raise ParseError("RTCP report blocks are cut off")
    return tuple(ReportBlock.parse(data, at + index * _BLOCK.size) for index in range(count))


@dataclass(frozen=True, slots=True)
class SenderReport:
    """``ntp`` is the 64-bit NTP time at which the RTP clock showed ``timestamp``."""

    ssrc: int
    ntp: int
    timestamp: int
    packets: int
    octets: int
    blocks: tuple[ReportBlock, ...] = ()

    @classmethod
    def parse(cls, count: int, body: bytes) -> SenderReport:
        if len(body) < _SENDER.size:
            raise ParseError("RTCP sender report is too short")
        ssrc, ntp, timestamp, packets, octets = _SENDER.unpack_from(body)
        return cls(ssrc, ntp, timestamp, packets, octets, _blocks(body, _SENDER.size, count))

    def serialise(self) -> bytes:
        body = _SENDER.pack(
            self.ssrc,
            self.ntp,
            self.timestamp,
            self.packets & 0xFFFFFFFF,
            self.octets & 0xFFFFFFFF,
        )
        body += b"".join(block.serialise() for block in self.blocks)
        return pack_packet(SENDER_REPORT, len(self.blocks), body)


class ReceiverReport(NamedTuple):
    ssrc: int
    blocks: tuple[ReportBlock, ...] = ()

    @classmethod
    def parse(cls, count: int, body: bytes) -> ReceiverReport:
        if len(body) < 4:
            raise ParseError("RTCP receiver report is too short")
        return cls(_SSRC.unpack_from(body)[0], _blocks(body, 4, count))

    def serialise(self) -> bytes:
        blocks = [block.serialise() for block in self.blocks]
        return pack_packet(RECEIVER_REPORT, len(blocks), b"".join([_SSRC.pack(self.ssrc), *blocks]))


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """The canonical name of each source; the other items are read over."""

    names: tuple[tuple[int, str], ...]

    @classmethod
    def parse(cls, count: int, body: bytes) -> SourceDescription:
        names = []
        at = 0
        for _ in range(count):
            if at + 4 > len(body):
                raise ParseError("RTCP source description is cut off")
            ssrc = _SSRC.unpack_from(body, at)[0]
            at += 4
            name = ""
            while at < len(body) and body[at] != 0:
                if at + 2 > len(body) or at + 2 + body[at + 1] > len(body):
                    raise ParseError("RTCP source description item is cut off")
                if body[at] == _CNAME:
                    name = body[at + 2 : at + 2 + body[at + 1]].decode("utf-8", "replace")
                at += 2 + body[at + 1]
            names.append((ssrc, name))
            at += 4 - at % 4  # one to four zero bytes end the chunk on a whole word
        return cls(tuple(names))

    def serialise(self) -> bytes:
        chunks = []
        for ssrc, name in self.names:
            text = name.encode()[:255]
            chunk = _SSRC.pack(ssrc) + bytes([_CNAME, len(text)]) + text
            chunks.append(chunk + bytes(4 - len(chunk) % 4))
        return pack_packet(SOURCE_DESCRIPTION, len(self.names), b"".join(chunks))


@dataclass(frozen=True, slots=True)
class Bye:
    ssrcs: tuple[int, ...]

    @classmethod
    def parse(cls, count: int, body: bytes) -> Bye:
        if len(body) < 4 * count:
            raise ParseError("RTCP goodbye is cut off")
        return cls(tuple(_SSRC.unpack_from(body, 4 * index)[0] for index in range(count)))

    def serialise(self) -> bytes:
        body = b"".join(_SSRC.pack(ssrc) for ssrc in self.ssrcs)
        return pack_packet(GOODBYE, len(self.ssrcs), body)


@dataclass(frozen=True, slots=True)
class Nack:
    """Sequence numbers that a receiver misses (RFC 4585 section 6.2.1), in its order."""

    sender: int
    media: int
    sequences: tuple[int, ...]

    @classmethod
    def parse(cls, body: bytes) -> Nack:
        sender, media = _feedback_ssrcs(body)
        sequences: list[int] = []
        for at in range(8, len(body) - 3, 4):
            first, following = _NACK.unpack_from(body, at)
            sequences.append(first)
            sequences.extend(
                (first + bit + 1) & 0xFFFF for bit in range(16) if following >> bit & 1
            )
            if len(sequences) > _MAX_SEQUENCES:
                raise ParseError("RTCP NACK asks for too much")
        return cls(sender, media, tuple(sequences))

    def serialise(self) -> bytes:
        body = [_SSRCS.pack(self.sender, self.media)]
        at = 0
        sequences = self.sequences
        while at < len(sequences):
            first = sequences[at]
            following = 0
            at += 1
            while at < len(sequences) and 0 < (sequences[at] - first & 0xFFFF) <= 16:
                following |= 1 << (sequences[at] - first & 0xFFFF) - 1
                at += 1
            body.append(_NACK.pack(first, following))
        return pack_packet(TRANSPORT_FEEDBACK, NACK_FORMAT, b"".join(body))


@dataclass(frozen=True, slots=True)
class PictureLoss:
    """A key frame is asked for (RFC 4585 section 6.3.1)."""

    sender: int
    media: int

    @classmethod
    def parse(cls, body: bytes) -> PictureLoss:
        return cls(*_feedback_ssrcs(body))

    def serialise(self) -> bytes:
        return pack_packet(PAYLOAD_FEEDBACK, PLI_FORMAT, _SSRCS.pack(self.sender, self.media))


@dataclass(frozen=True, slots=True)
class FullIntraRequest:
    """A key frame is asked for, by SSRC and command number (RFC 5104 section 4.3.1)."""

    sender: int
    requests: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, body: bytes) -> FullIntraRequest:
        sender, _ = _feedback_ssrcs(body)
        return cls(sender, tuple(_FIR.iter_unpack(body[8 : len(body) // 8 * 8])))

    def serialise(self) -> bytes:
        body = _SSRCS.pack(self.sender, 0)
        body += b"".join(_FIR.pack(ssrc, number & 0xFF) for ssrc, number in self.requests)
        return pack_packet(PAYLOAD_FEEDBACK, FIR_FORMAT, body)


@dataclass(frozen=True, slots=True)
class Remb:
    """The receiver's estimate of the path (draft-alvestrand-rmcat-remb-03), bits a second."""

    sender: int
    bitrate: int
    ssrcs: tuple[int, ...]

    @classmethod
    def parse(cls, body: bytes) -> Remb:
        sender, _ = _feedback_ssrcs(body)
        if len(body) < 16:
            raise ParseError("RTCP REMB is cut off")
        count = body[12]
        if len(body) < 16 + 4 * count:
            raise ParseError("RTCP REMB is cut off")
        mantissa = (body[13] & 3) << 16 | body[14] << 8 | body[15]
        ssrcs = tuple(_SSRC.unpack_from(body, 16 + 4 * index)[0] for index in range(count))
        return cls(sender, mantissa << (body[13] >> 2), ssrcs)

    def serialise(self) -> bytes:
        exponent = max(0, self.bitrate.bit_length() - 18)
        mantissa = self.bitrate >> exponent
        body = _SSRCS.pack(self.sender, 0) + b"REMB"
        body += bytes([len(self.ssrcs), exponent << 2 | mantissa >> 16])
        body += (mantissa & 0xFFFF).to_bytes(2, "big")
        body += b"".join(_SSRC.pack(ssrc) for ssrc in self.ssrcs)
        return pack_packet(PAYLOAD_FEEDBACK, APPLICATION_FORMAT, body)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A packet of a kind that this side does nothing with.

    Attributes:
        count: the five bits that are a format or a number of items.
    """

    kind: int
    count: int
    body: bytes

    def serialise(self) -> bytes:
        return pack_packet(self.kind, self.count, self.body)


Rtcp: TypeAlias = (
    SenderReport
    | ReceiverReport
    | SourceDescription
    | Bye
    | Nack
    | PictureLoss
    | FullIntraRequest
    | Remb
    | Unknown
)


def _feedback_ssrcs(body: bytes) -> tuple[int, int]:
    if len(body) < 8:
        raise ParseError("RTCP feedback is too short")
    sender, media = _SSRCS.unpack_from(body)
    return sender, media


def _parse_one(kind: int, count: int, body: bytes) -> Rtcp:
    if kind == SENDER_REPORT:
        return SenderReport.parse(count, body)
    if kind == RECEIVER_REPORT:
        return ReceiverReport.parse(count, body)
    if kind == SOURCE_DESCRIPTION:
        return SourceDescription.parse(count, body)
    if kind == GOODBYE:
        return Bye.parse(count, body)
    if kind == TRANSPORT_FEEDBACK and count == NACK_FORMAT:
        return Nack.parse(body)
    if kind == PAYLOAD_FEEDBACK:
        if count == PLI_FORMAT:
            return PictureLoss.parse(body)
        if count == FIR_FORMAT:
            return FullIntraRequest.parse(body)
        if count == APPLICATION_FORMAT and body[8:12] == b"REMB":
            return Remb.parse(body)
    return Unknown(kind, count, body)


def parse_compound(data: bytes) -> list[Rtcp]:
    """Read a compound packet, or one of reduced size (RFC 5506).

    Raises:
        ParseError: a length that reaches past the end, a padding longer than its
            packet, a packet of a known kind that breaks its format, or more packets and
            requests than anybody means. Nothing of such a compound is used.
    """
    packets: list[Rtcp] = []
    at = 0
    size = len(data)
    if size < 4:
        raise ParseError("RTCP packet is shorter than its header")
    while at < size:
        if at + 4 > size:
            raise ParseError("RTCP header is cut off")
        if len(packets) == _MAX_PACKETS:
            raise ParseError("RTCP compound of too many packets")
        first, kind, words = _HEADER.unpack_from(data, at)
        if first >> 6 != 2:
            raise ParseError("RTCP version is not 2")
        end = at + 4 + 4 * words
        if end > size:
            raise ParseError("RTCP length reaches past the packet")
        body = data[at + 4 : end]
        if first & 0x20:
            if not body or body[-1] == 0 or body[-1] > len(body):
                raise ParseError("RTCP padding is longer than its packet")
            body = body[: -body[-1]]
        packets.append(_parse_one(kind, first & 0x1F, body))
        at = end
    return packets


def compound(packets: Iterable[Rtcp]) -> bytes:
    return b"".join(packet.serialise() for packet in packets)
