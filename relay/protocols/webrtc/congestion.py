"""Transport-wide feedback: which packets came when (draft-holmer-rmcat-transport-wide-cc-01).

The sender's own congestion control reads it; here nothing is estimated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from struct import Struct
from typing import Final, NamedTuple

from relay.errors import ParseError
from relay.protocols.webrtc.rtcp import TRANSPORT_FEEDBACK, TWCC_FORMAT, pack_packet

INTERVAL: Final = 0.05
"""Seconds between two feedback packets."""

TICK: Final = 0.00025
"""Seconds of one unit of arrival time."""

MAX_STATUSES: Final = 512
"""Sequence numbers of one packet: with two bytes of time each it stays under 1280 bytes."""

MAX_GAP: Final = 500
"""Missing sequence numbers in a row that are still told as missing; and how far behind the
newest packet a late one is still told."""

MAX_MISSING: Final = 1000
"""The same of all that is told at a time: an outage has one large gap, numbers that lie have one
in front of each packet, and would cost us more than the packets."""

MAX_PENDING: Final = 4096
"""Arrivals kept until the next feedback."""

_TICKS_OF_REFERENCE: Final = 256  # 64 ms
_MAX_RUN: Final = 0x1FFF
_NOT_RECEIVED, _SMALL, _LARGE = 0, 1, 2
_HEAD = Struct("!IIHHI")
_CHUNK = Struct("!H")


@dataclass(frozen=True, slots=True)
class TransportFeedback:
    """One feedback packet.

    Attributes:
        base: sequence number of the first status.
        reference: time that the arrivals count from, in 64 ms, 24 bits.
        count: number of the feedback packet, 8 bits.
        arrivals: for each sequence number from ``base`` on: ticks of 250 us since
            ``reference``, or None when it did not come.
    """

    sender: int
    media: int
    base: int
    reference: int
    count: int
    arrivals: tuple[int | None, ...]

    @classmethod
    def parse(cls, body: bytes) -> TransportFeedback:
        """
        Raises:
            ParseError: it ends before the statuses or times that it announces.
        """
        if len(body) < _HEAD.size:
            raise ParseError("transport feedback is too short")
        sender, media, base, statuses, last = _HEAD.unpack_from(body)
        symbols, at = _parse_chunks(body, _HEAD.size, statuses)
        arrivals: list[int | None] = []
        time = 0
        for symbol in symbols:
            size = symbol if symbol in (_SMALL, _LARGE) else 0
            if at + size > len(body):
                raise ParseError("transport feedback ends before its times")
            if size:
                time += int.from_bytes(body[at : at + size], "big", signed=size == 2)
            arrivals.append(time if size else None)
            at += size
        return cls(sender, media, base, last >> 8, last & 0xFF, tuple(arrivals))

    def serialise(self) -> bytes:
        symbols: list[int] = []
        deltas = bytearray()
        time = 0
        for arrival in self.arrivals:
            if arrival is None:
                symbols.append(_NOT_RECEIVED)
                continue
            delta = arrival - time
            time = arrival
            if 0 <= delta <= 0xFF:
                symbols.append(_SMALL)
                deltas.append(delta)
            else:
                symbols.append(_LARGE)
                deltas += delta.to_bytes(2, "big", signed=True)
        head = _HEAD.pack(
            self.sender,
            self.media,
            self.base,
            len(symbols),
            (self.reference & 0xFFFFFF) << 8 | self.count & 0xFF,
        )
        body = head + pack_chunks(symbols) + deltas
        return pack_packet(TRANSPORT_FEEDBACK, TWCC_FORMAT, body + bytes(-len(body) % 4))


class Summary(NamedTuple):
    """What most feedback is read for.

    Attributes:
        received: how many of its packets came.
        last: the last of them, counted from ``base``; -1 when none came.
        ticks: its arrival, as in ``TransportFeedback.arrivals``.
    """

    base: int
    reference: int
    received: int
    last: int
    ticks: int


def summarise(body: bytes) -> Summary:
    """Read feedback without a step for each packet, as long as times are of one byte.

    Raises:
        ParseError: as ``TransportFeedback.parse``.
    """
    if len(body) < _HEAD.size:
        raise ParseError("transport feedback is too short")
    _, _, base, statuses, last_word = _HEAD.unpack_from(body)
    at = _HEAD.size
    seen = received = 0
    last = -1
    while seen < statuses:
        if at + 2 > len(body):
            raise ParseError("transport feedback ends before its statuses")
        chunk = body[at] << 8 | body[at + 1]
        at += 2
        left = statuses - seen
        if chunk < 0x8000:
            symbol, run = chunk >> 13, min(chunk & _MAX_RUN, left)
            if symbol > _SMALL or not run:
                return _summary(TransportFeedback.parse(body))
            if symbol:
                received += run
                last = seen + run - 1
            seen += run
        elif chunk < 0xC000:
            width = min(14, left)
            bits = (chunk & 0x3FFF) >> (14 - width)
            if bits:
                received += bits.bit_count()
                last = seen + width - (bits & -bits).bit_length()
            seen += width
        else:
            return _summary(TransportFeedback.parse(body))
    if at + received > len(body):
        raise ParseError("transport feedback ends before its times")
    return Summary(base, last_word >> 8, received, last, sum(body[at : at + received]))


def _summary(told: TransportFeedback) -> Summary:
    came = [index for index, arrival in enumerate(told.arrivals) if arrival is not None]
    last = came[-1] if came else -1
    ticks = told.arrivals[last] if came else 0
    return Summary(told.base, told.reference, len(came), last, ticks or 0)


def pack_chunks(symbols: Sequence[int]) -> bytes:
    """Statuses as run-length chunks where they repeat, as vectors where they do not."""
    chunks = bytearray()
    at = 0
    total = len(symbols)
    while at < total:
        symbol = symbols[at]
        run = 1
        while at + run < total and symbols[at + run] == symbol and run < _MAX_RUN:
            run += 1
        window = symbols[at : at + 14]
        one_bit = _LARGE not in window
        if run >= (14 if one_bit else 7) or at + run == total:
            chunks += _CHUNK.pack(symbol << 13 | run)
            at += run
        elif one_bit:
            chunks += _CHUNK.pack(0x8000 | _vector(window, 14, 1))
            at += 14
        else:
            chunks += _CHUNK.pack(0xC000 | _vector(window[:7], 7, 2))
            at += 7
    return bytes(chunks)


def _vector(symbols: Sequence[int], length: int, bits: int) -> int:
    value = 0
    for symbol in symbols:
        value = value << bits | symbol
    return value << bits * (length - len(symbols))


def _parse_chunks(body: bytes, at: int, statuses: int) -> tuple[list[int], int]:
    symbols: list[int] = []
    while len(symbols) < statuses:
        if at + 2 > len(body):
            raise ParseError("transport feedback ends before its statuses")
        chunk = _CHUNK.unpack_from(body, at)[0]
        at += 2
        if chunk < 0x8000:
            symbols += [chunk >> 13] * min(chunk & _MAX_RUN, statuses - len(symbols))
            if not chunk & _MAX_RUN:
                raise ParseError("transport feedback has a run of nothing")
        elif chunk < 0xC000:
            symbols += [chunk >> shift & 1 for shift in range(13, -1, -1)]
        else:
            symbols += [chunk >> shift & 3 for shift in range(12, -1, -2)]
    return symbols[:statuses], at


class FeedbackBuilder:
    """Notes the arrival of each packet, and writes the feedback about all since the last.

    Attributes:
        pending: how many arrivals wait to be told.
    """

    __slots__ = ("_arrivals", "_count", "_highest", "_media", "_next", "_sender")

    def __init__(self, sender: int) -> None:
        """
        Args:
            sender: our own SSRC, as the sender of feedback.
        """
        self._sender = sender
        self._media = 0
        self._arrivals: dict[int, float] = {}
        self._highest: int | None = None
        self._next: int | None = None  # the first sequence number not told of yet
        self._count = 0

    @property
    def pending(self) -> int:
        return len(self._arrivals)

    @property
    def standing(self) -> tuple[int, int] | None:
        """The number that is to be told next, and that of the next feedback: for whoever goes on
        from there. None before the first."""
        return None if self._next is None else (self._next & 0xFFFF, self._count)

    def told(self, untold: int, count: int) -> None:
        """All up to there was told elsewhere."""
        if self._next is not None:
            self._next += (untold - self._next) & 0xFFFF
            self._highest = max(self._highest or 0, self._next - 1)
        self._count = count

    def arrived(self, sequence: int, media: int, now: float) -> None:
        """Note a packet, by its transport-wide sequence number and its SSRC."""
        highest = self._highest
        if highest is None:
            extended = self._highest = sequence
        else:
            extended = highest + ((sequence - highest + 0x8000) & 0xFFFF) - 0x8000
            if extended > highest:
                self._highest = extended
            elif extended < highest - MAX_GAP:
                return  # far too late: the sender has long counted it as lost
        self._media = media
        if extended not in self._arrivals and len(self._arrivals) < MAX_PENDING:
            self._arrivals[extended] = now

    def build(self) -> list[TransportFeedback]:
        """Feedback about all that arrived since the last time; empty when nothing did."""
        arrivals = self._arrivals
        if not arrivals:
            return []
        received = sorted(arrivals)
        base = received[0] if self._next is None else min(self._next, received[0])
        made: list[TransportFeedback] = []
        reference = 0
        time = 0
        statuses: list[int | None] = []
        room = MAX_MISSING
        for extended in received:
            ticks = floor(arrivals[extended] / TICK)
            missing = extended - base - len(statuses)
            far = not -0x8000 <= ticks - reference * _TICKS_OF_REFERENCE - time <= 0x7FFF
            long = len(statuses) + missing >= MAX_STATUSES or missing > room
            if statuses and (long or far):
                made.append(self._feedback(base, reference, statuses))
                base += len(statuses)
                statuses = []
                missing = extended - base
            if not statuses:
                if missing > min(MAX_GAP, room):
                    base, missing = extended, 0
                reference = ticks // _TICKS_OF_REFERENCE
            statuses += [None] * missing
            room -= missing
            time = ticks - reference * _TICKS_OF_REFERENCE
            statuses.append(time)
        made.append(self._feedback(base, reference, statuses))
        self._next = received[-1] + 1
        arrivals.clear()
        return made

    def _feedback(self, base: int, reference: int, statuses: list[int | None]) -> TransportFeedback:
        made = TransportFeedback(
            self._sender,
            self._media,
            base & 0xFFFF,
            reference & 0xFFFFFF,
            self._count,
            tuple(statuses),
        )
        self._count = (self._count + 1) & 0xFF
        return made
