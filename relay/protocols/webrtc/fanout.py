"""The same payloads to many viewers: header, SRTP and send, with as little as can be between.

What a viewer needs of its own is a header of 12 bytes and its keys. Payloads are shared:
the history for retransmissions holds references, one entry a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from secrets import randbits
from typing import Any, Final, Protocol

from relay.protocols.webrtc.negotiation import MID, TRANSPORT_CC, TrackParameters
from relay.protocols.webrtc.rtcp import SenderReport
from relay.protocols.webrtc.rtp import HEADER, ONE_BYTE, pack_elements, wrap_rtx
from relay.protocols.webrtc.sendlog import SendLog
from relay.protocols.webrtc.sent import HISTORY, SentFrames, SentPacket
from relay.protocols.webrtc.srtp import SrtpError

MAX_PAYLOAD: Final = 1300
"""Bytes of a payload: pylibsrtp protects packets of up to 1356 bytes."""

MID_PACKETS: Final = 64
"""The first packets of a track say which section they belong to; then the SSRC does."""

_VERSION: Final = 0x80
_WITH_EXTENSION: Final = 0x90
_MARKER: Final = 0x80


class Outlet(Protocol):
    """Where packets of one viewer go; both change when the viewer moves or leaves."""

    srtp_protect: Callable[[bytes], bytes]
    transmit: Callable[[bytes], None]


class OutgoingTrack:
    """One SSRC of one viewer: its numbers go on whatever feeds it.

    Attributes:
        packets, octets: sent, as the sender report counts them.
        resent: retransmissions.
        log: of the viewer's connection; None where its packets carry no transport-wide
            numbers.
    """

    __slots__ = (
        "_own",
        "_rtx_sequence",
        "_shared",
        "_shared_from",
        "clock_rate",
        "extension",
        "log",
        "octets",
        "offset",
        "outlet",
        "packets",
        "payload_type",
        "resent",
        "rtx_payload_type",
        "rtx_ssrc",
        "sequence",
        "ssrc",
        "timestamp",
    )

    def __init__(
        self, parameters: TrackParameters, outlet: Outlet, log: SendLog | None = None
    ) -> None:
        self.outlet = outlet
        self.log = log
        self.payload_type = parameters.payload_type
        self.ssrc = parameters.ssrc
        self.clock_rate = parameters.clock_rate
        self.rtx_payload_type = parameters.rtx_payload_type
        self.rtx_ssrc = parameters.rtx_ssrc
        self.sequence = randbits(15)  # the lower half: no wrap before SRTP has settled
        self.offset = randbits(32)
        self.timestamp = 0  # of the last frame, on the rendition's line
        self.packets = 0
        self.octets = 0
        self.resent = 0
        self.extension = _extension(parameters, log)
        self._rtx_sequence = randbits(15)
        self._own = SentFrames()
        self._shared: SentFrames | None = None
        self._shared_from = 0

    def route(self, keys: Any, address: tuple[Any, ...] | None) -> None:
        """The viewer connected, moved or left; a track that sends through its outlet asks
        that each time."""

    def send(self, payloads: Sequence[bytes], timestamp: int, *, marker: bool) -> None:
        """Send one frame now, and count it.

        Raises:
            SrtpError: the keys cannot be used.
        """
        pack = HEADER.pack
        protect = self.outlet.srtp_protect
        transmit = self.outlet.transmit
        ssrc = self.ssrc
        sequence = self.sequence
        ticks = (self.offset + timestamp) & 0xFFFFFFFF
        kind = self.payload_type
        left = len(payloads)
        if self.extension and self.packets < MID_PACKETS:
            first, extension = _WITH_EXTENSION, self.extension
        else:
            first, extension = _VERSION, b""
        log = self.log
        if log is not None:
            first, extension = _WITH_EXTENSION, extension or _shortest(log)
        for payload in payloads:
            left -= 1
            if not left and marker:
                kind |= _MARKER
            if log is not None:
                extension = _numbered(extension, log.take(len(payload)))
            header = pack(first, kind, sequence, ticks, ssrc)
            transmit(protect(header + extension + payload if extension else header + payload))
            sequence = (sequence + 1) & 0xFFFF
        self.sequence = sequence
        self.timestamp = timestamp
        self.packets += len(payloads)
        self.octets += sum(map(len, payloads))

    def send_alone(self, payloads: Sequence[bytes], timestamp: int, *, marker: bool) -> None:
        """Send one frame to this viewer only, and keep it to be sent again.

        Raises:
            SrtpError: the keys cannot be used.
        """
        self.send(payloads, timestamp, marker=marker)
        self._own.add(payloads, timestamp, marker=marker)

    def follow(self, sent: SentFrames) -> None:
        """From now on this track sends all that goes into ``sent``, and nothing else."""
        if self._shared is not sent:
            self._shared, self._shared_from = sent, sent.total

    def part(self) -> None:
        """From now on what goes into what it followed is not sent on this track."""
        if self._shared is not None:
            self._own.take_since(self._shared, self._shared_from)
            self._shared = None

    def trim(self) -> None:
        """Let go of what was sent alone, once it is too old to be asked for."""
        if self._shared is not None and self._shared.total - self._shared_from >= HISTORY:
            self._own.clear()

    def retransmission(self, sequence: int) -> bytes | None:
        """The packet with that number as it is sent again, None when it is not kept.

        With RTX it goes out under the numbers of the retransmission stream (RFC 4588),
        without just as it was.
        """
        found = self._find((self.sequence - 1 - sequence) & 0xFFFF)
        if found is None:
            return None
        bit = _MARKER if found.marker else 0
        ticks = (self.offset + found.timestamp) & 0xFFFFFFFF
        self.resent += 1
        first, extension = _VERSION, b""
        if self.log is not None:
            number = self.log.take(len(found.payload))
            first, extension = _WITH_EXTENSION, _numbered(_shortest(self.log), number)
        if self.rtx_payload_type is None or self.rtx_ssrc is None:
            kind = self.payload_type | bit
            header = HEADER.pack(first, kind, sequence, ticks, self.ssrc)
            return header + extension + found.payload
        self._rtx_sequence = (self._rtx_sequence + 1) & 0xFFFF
        kind = self.rtx_payload_type | bit
        header = HEADER.pack(first, kind, self._rtx_sequence, ticks, self.rtx_ssrc)
        return header + extension + wrap_rtx(sequence, found.payload)

    def _find(self, back: int) -> SentPacket | None:
        if back >= HISTORY:
            return None
        together = 0 if self._shared is None else self._shared.total - self._shared_from
        if self._shared is not None and back < together:
            return self._shared.back(back)
        return self._own.back(back - together)

    def sender_report(self, ntp: int, line_seconds: float) -> SenderReport:
        """What to tell the viewer.

        Args:
            ntp: the time now, 64 bits.
            line_seconds: what the rendition's line shows now.
        """
        ticks = (self.offset + round(line_seconds * self.clock_rate)) & 0xFFFFFFFF
        packets, octets = self.packets & 0xFFFFFFFF, self.octets & 0xFFFFFFFF
        return SenderReport(self.ssrc, ntp, ticks, packets, octets)


class FanOut:
    """The same frames to a set of tracks, in their order.

    Attributes:
        sent: what they were sent, kept once for all of them.
    """

    def __init__(self) -> None:
        self.sent = SentFrames()
        self._tracks: list[OutgoingTrack] = []

    def set(self, tracks: Sequence[OutgoingTrack]) -> None:
        """Who gets the frames from now on."""
        staying = frozenset(tracks)
        for track in self._tracks:
            if track not in staying:
                track.part()
        self._tracks = list(tracks)
        for track in tracks:
            track.follow(self.sent)

    def frame(
        self, payloads: Sequence[bytes], timestamp: int, *, marker: bool
    ) -> list[OutgoingTrack]:
        """Send one frame to all.

        Args:
            payloads: RTP payloads of at most MAX_PAYLOAD bytes.
            timestamp: on the rendition's line, in the codec's clock.
            marker: set it on the last packet (video).

        Returns:
            The tracks that it could not be sent on. A full socket is no failure: the
            packet is gone, and is asked for again.
        """
        failed = send_each(self._tracks, payloads, timestamp, marker=marker)
        self.sent.add(payloads, timestamp, marker=marker)
        return failed


def send_each(
    tracks: Sequence[OutgoingTrack], payloads: Sequence[bytes], timestamp: int, *, marker: bool
) -> list[OutgoingTrack]:
    """The same frame on each track by itself; returns those it could not be sent on."""
    failed: list[OutgoingTrack] = []
    for track in tracks:
        try:
            track.send(payloads, timestamp, marker=marker)
        except SrtpError:
            failed.append(track)
    return failed


class LineClock:
    """Which wall clock time belongs to a rendition's line, for sender reports.

    Audio and video of a rendition share it: that is what keeps lips in sync. It follows
    slowly, and jumps only when the line does.
    """

    _FOLLOW: Final = 0.001
    _JUMP: Final = 0.5

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset: float | None = None

    def observe(self, line_seconds: float, wall: float) -> None:
        """A frame of that time on the line passes at ``wall`` seconds since the epoch."""
        offset = wall - line_seconds
        if self._offset is None or abs(offset - self._offset) > self._JUMP:
            self._offset = offset
        else:
            self._offset += (offset - self._offset) * self._FOLLOW

    def at(self, wall: float) -> float | None:
        """What the line shows at ``wall``, in seconds; None before the first frame."""
        return None if self._offset is None else wall - self._offset


_NTP_EPOCH: Final = 2_208_988_800  # seconds from 1900 to 1970


def ntp_time(wall: float) -> int:
    """Seconds since 1970 as a 64-bit NTP timestamp (RFC 3550 section 4)."""
    return round((wall + _NTP_EPOCH) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF


def log_identifier(parameters: TrackParameters) -> int | None:
    """Of the extension with transport-wide numbers, None where the viewer does not answer it."""
    identifier = parameters.extensions.get(TRANSPORT_CC)
    if identifier is None or not 1 <= identifier <= 14:
        return None
    return identifier if "transport-cc" in parameters.feedback else None


def _extension(parameters: TrackParameters, log: SendLog | None) -> bytes:
    """What the first packets carry: the number's place comes first, then the section."""
    values = {} if log is None else {log.identifier: bytes(2)}
    identifier = parameters.extensions.get(MID)
    mid = parameters.mid.encode()
    if identifier is not None and 1 <= len(mid) <= 16 and 1 <= identifier <= 14:
        values[identifier] = mid
    return _packed(values) if values else b""


def _packed(values: dict[int, bytes]) -> bytes:
    profile, body = pack_elements(values)
    assert profile == ONE_BYTE
    return profile.to_bytes(2, "big") + (len(body) // 4).to_bytes(2, "big") + body


def _shortest(log: SendLog) -> bytes:
    return _packed({log.identifier: bytes(2)})


def _numbered(extension: bytes, number: int) -> bytes:
    return extension[:5] + number.to_bytes(2, "big") + extension[7:]
