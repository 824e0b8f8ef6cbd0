"""MPEG-TS with H.264 and Opus, in and out, without waiting (ISO/IEC 13818-1).

Opus travels as Xiph's draft "Opus in MPEG-TS", FFmpeg and stock Livepeer nodes have it:
stream_type 6 with the registration descriptor ``Opus``, and a control header a packet.
"""

from __future__ import annotations

from typing import Final

from relay.errors import ParseError
from relay.media.h264 import AUD, IDR, TYPE_MASK, join_annexb, split_annexb
from relay.media.native_transport import UnitReader, UnitWriter
from relay.media.opus_packets import opus_packets
from relay.media.pes import (
    BODY,
    PACKET,
    PADDING,
    SYNC,
    Elementary,
    continuation_headers,
    is_stuffed,
    payload_of,
    pes_header,
    stuffed,
)
from relay.media.psi import (
    AUDIO_PID,
    PAT_PID,
    PMT_PID,
    VIDEO_PID,
    SectionReader,
    parse_pat,
    parse_pmt,
    pat_section,
    pmt_section,
)
from relay.media.timeline import Unwrapper
from relay.media.unit import AccessUnit, Codec

MAX_PES: Final = 4 << 20

_CLOCK_BITS: Final = 33
_CLOCK_MASK: Final = (1 << _CLOCK_BITS) - 1
_NEAR: Final = 1 << (_CLOCK_BITS - 1)
"""A timestamp so near to the one before it has not run over."""
_PCR_LEAD: Final = 9000
"""The PCR is 100 ms before the PTS, as stock nodes have it."""

_AUD_NAL: Final = b"\x00\x00\x00\x01\x09\xf0"


class Muxer:
    """Writes access units as transport packets, each at once and whole.

    PIDs and continuity counters run on over segments for the life of the Muxer: stock
    readers drop the last frame of a segment when the counters restart at the next one.

    Args:
        video: the program has H.264.
        audio: the program has Opus.

    Attributes:
        write_picture: what ``write`` does with a picture, in one call less: of its payload, its
            pts, and whether it is a key frame. None where it takes Python to do it.
        write_sound: the same of a packet of sound: of its payload and its pts.
    """

    __slots__ = (
        *("_counters", "_headers", "_pcr", "_pcr_pid", "_sections"),
        *("write_picture", "write_sound"),
    )

    def __init__(self, *, video: bool = True, audio: bool) -> None:
        self._pcr_pid = VIDEO_PID if video else AUDIO_PID
        self._sections = (
            (PAT_PID, pat_section()),
            (PMT_PID, pmt_section(video=video, audio=audio)),
        )
        self._counters = dict.fromkeys((PAT_PID, PMT_PID, VIDEO_PID, AUDIO_PID), 0)
        self._headers = {pid: continuation_headers(pid) for pid in (VIDEO_PID, AUDIO_PID)}
        self._pcr = 0
        native = UnitWriter.of(VIDEO_PID) if video else None
        self.write_picture = None if native is None else native.picture
        # Where there is sound alone it carries the PCR: Python does that.
        native = UnitWriter.of(AUDIO_PID) if video and audio else None
        self.write_sound = None if native is None else native.sound

    def tables(self) -> bytes:
        """A PAT and a PMT, one packet each: the head of every segment."""
        out = []
        for pid, section in self._sections:
            counter = self._counters[pid]
            self._counters[pid] = (counter + 1) & 15
            out.append(bytes((SYNC, 0x40 | pid >> 8, pid & 0xFF, 0x10 | counter, 0)))
            out.append(section)
            out.append(PADDING[: BODY - 1 - len(section)])
        return b"".join(out)

    def write(self, unit: AccessUnit, head: bytes = b"") -> bytes:
        """One PES in whole packets of 188 bytes; the PTS is the unit's modulo 2**33.

        Args:
            head: packets to stand in front of it.
        """
        if unit.is_video:
            if self.write_picture is not None:
                data = self.write_picture(unit.payload, unit.pts, unit.keyframe)
                return head + data if head else data
            pid, stream_id, begin = VIDEO_PID, 0xE0, _AUD_NAL
        else:
            if self.write_sound is not None:
                data = self.write_sound(unit.payload, unit.pts)
                return head + data if head else data
            full, rest = divmod(len(unit.payload), 255)
            # 11 bits of prefix 0x3ff, no trims, no extension; then the size in 255s.
            begin = b"\x7f\xe0" + b"\xff" * full + bytes((rest,))
            pid, stream_id = AUDIO_PID, 0xBD
        adaptation = b""
        if pid == self._pcr_pid:
            adaptation = self._adaptation(unit.pts, unit.keyframe or not unit.is_video)
        room = BODY - len(adaptation)
        size = len(begin) + len(unit.payload)
        header = pes_header(stream_id, unit.pts & _CLOCK_MASK, size, room)
        return self._packets(head, pid, adaptation, b"".join((header, begin, unit.payload)))

    def _adaptation(self, pts: int, random_access: bool) -> bytes:
        """The adaptation field with a PCR, its length byte included (2.4.3.4)."""
        pcr = pts - _PCR_LEAD
        if pcr < self._pcr < pts:  # a B-frame's earlier PTS: the clock does not go back
            pcr = self._pcr
        self._pcr = pcr
        base = (pcr & _CLOCK_MASK) << 15 | 0x7E00  # reserved bits set, extension 0
        return bytes((7, 0x50 if random_access else 0x10)) + base.to_bytes(6, "big")

    def _packets(self, head: bytes, pid: int, adaptation: bytes, pes: bytes) -> bytes:
        counter = self._counters[pid]
        room = BODY - len(adaptation)
        field = stuffed(adaptation, max(0, room - len(pes)))
        control = (0x30 if field else 0x10) | counter
        out = [head, bytes((SYNC, 0x40 | pid >> 8, pid & 0xFF, control)), field, pes[:room]]
        counter = (counter + 1) & 15
        headers = self._headers[pid]
        full, rest = divmod(max(0, len(pes) - room), BODY)
        end = room + full * BODY
        for at in range(room, end, BODY):
            out.append(headers[counter])
            out.append(pes[at : at + BODY])
            counter = (counter + 1) & 15
        if rest:
            out.append(bytes((SYNC, pid >> 8, pid & 0xFF, 0x30 | counter)))
            out.append(stuffed(b"", BODY - rest))
            out.append(pes[end:])
            counter = (counter + 1) & 15
        self._counters[pid] = counter
        return b"".join(out)


class Demuxer:
    """Reads transport packets as they come; an access unit leaves as soon as it is whole.

    Whole is: its PES length is reached; or, where the muxer wrote no length, a packet with
    stuffing, or the next PES start, or flush(). One Demuxer reads all segments of a stream,
    also where the continuity counters restart at each; flush() at the end of each segment
    gives the last unit of a muxer that writes neither lengths nor stuffing.

    Nothing that it is fed makes it raise, and it holds one PES a stream at most.

    Args:
        max_pes: bytes of one PES; a longer one is dropped.

    Attributes:
        has_video: the PMT lists H.264; None until one was seen.
        has_audio: the PMT lists Opus; None until one was seen.
        dropped_packets: packets of our streams that were broken, scrambled or out of place.
        dropped_units: PES that were cut short, too long, without a PTS, or unreadable.
        resyncs: how often the packet grid was lost.
        discontinuities: unannounced jumps of a continuity counter.
    """

    def __init__(self, *, max_pes: int = MAX_PES) -> None:
        self.has_video: bool | None = None
        self.has_audio: bool | None = None
        self.dropped_packets = 0
        self.dropped_units = 0
        self.resyncs = 0
        self.discontinuities = 0
        self._max_pes = max_pes
        self._rest = b""
        self._synced = True
        self._clock = Unwrapper(_CLOCK_BITS)
        self._pat = SectionReader()
        self._pmt = SectionReader()
        self._pmt_pid: int | None = None
        self._streams: dict[int, Elementary] = {}
        self._native = UnitReader.where_built()

    def feed(self, data: bytes, arrival: float) -> list[AccessUnit]:
        """Take bytes, of any number, and give the access units that they complete.

        Args:
            arrival: ``time.monotonic()`` seconds when the bytes came; becomes the units'.
        """
        units: list[AccessUnit] = []
        if self._rest:
            data = self._rest + data
        at, last = 0, len(data) - PACKET
        while at <= last:
            if data[at] != SYNC or not self._synced:
                at = self._resync(data, at)
                if not self._synced:
                    break
                continue
            begins = data[at + 1]
            pid = (begins & 0x1F) << 8 | data[at + 2]
            stream = self._streams.get(pid)
            if stream is None:
                if pid in (PAT_PID, self._pmt_pid):
                    self._table(pid, data[at : at + PACKET])
            elif stream.open:
                if (end := stream.take(data, at, last, self._max_pes + 1)) > at:
                    at = end
                    if stream.complete or stream.size > self._max_pes:
                        self._close(stream, units, arrival)
                    continue
                self._packet(stream, data[at : at + PACKET], units, arrival)
            elif begins & 0x40 and (end := self._whole(stream, data, at, units, arrival)) > at:
                at = end  # most pieces are one picture or one packet of sound
                continue
            else:
                self._packet(stream, data[at : at + PACKET], units, arrival)
            at += PACKET
        self._rest = data[at:]
        return units

    def flush(self, arrival: float) -> list[AccessUnit]:
        """Call where a segment ends: gives what waits for the next PES start.

        A PES that lacks bytes, and a packet that is not whole, are dropped.
        """
        units: list[AccessUnit] = []
        self.dropped_packets += bool(self._rest)
        self._rest = b""
        self._synced = True
        for stream in self._streams.values():
            if stream.open:
                self._close(stream, units, arrival)
        return units

    def _resync(self, data: bytes, at: int) -> int:
        """The next sync byte that has another one a packet behind it.

        ``_synced`` stays False when the data ends before that is known.
        """
        self.resyncs += self._synced
        self._synced = False
        while True:
            at = data.find(SYNC, at)
            if at < 0:
                return len(data)
            if at + PACKET >= len(data):
                return at
            if data[at + PACKET] == SYNC:
                self._synced = True
                return at
            at += 1

    def _table(self, pid: int, packet: bytes) -> None:
        payload = payload_of(packet)
        if payload is None:
            return
        begins = bool(packet[1] & 0x40)
        if pid == PAT_PID:
            section = self._pat.feed(payload, begins=begins)
            found = parse_pat(section) if section else None
            if found is not None and found != self._pmt_pid:
                self._pmt_pid, self._pmt = found, SectionReader()
            return
        section = self._pmt.feed(payload, begins=begins)
        listed = parse_pmt(section) if section else None
        if listed is None:
            return
        self.has_video = Codec.H264 in listed.values()
        self.has_audio = Codec.OPUS in listed.values()
        kept = self._streams
        self._streams = {}
        for found, codec in listed.items():
            stream = kept.get(found)
            same = stream is not None and stream.codec is codec
            self._streams[found] = stream if stream and same else Elementary(found, codec)

    def _whole(
        self, stream: Elementary, data: bytes, at: int, units: list[AccessUnit], arrival: float
    ) -> int:
        """Take the access unit that begins at ``at``, if it is whole, alone in its PES, and
        nothing is strange about it; where the packet behind it starts."""
        native = self._native
        if native is None:
            return at
        state, look, counter = native.state, native.look[stream.codec], stream.counter
        size = look(state, data, len(data), at, stream.pid, counter, self._max_pes)
        if not size:
            return at
        found = native.buffer(state.out, size)[:]
        # The PES went by whole: its last packet's counter, and its first packet.
        stream.counter, stream.first = state.counter, data[at : at + PACKET]
        stream.ended_by_padding = False
        clock, pts = self._clock, state.pts
        last = clock.last
        if last is not None and -_NEAR <= pts - last < _NEAR:
            clock.last = pts  # most times, and a call less
        else:
            pts = clock.unwrap(pts)
        units.append(AccessUnit(stream.codec, found, pts, arrival, state.keyframe != 0))
        end: int = at + state.taken
        return end

    def _packet(
        self, stream: Elementary, packet: bytes, units: list[AccessUnit], arrival: float
    ) -> None:
        payload = payload_of(packet)
        if payload is None:
            # A packet of nothing but an adaptation field is in order.
            self.dropped_packets += packet[1] & 0x80 != 0 or packet[3] & 0xD0 != 0
            return
        begins = bool(packet[1] & 0x40)
        step = 1 if stream.counter < 0 else (packet[3] - stream.counter) & 15
        if step == 0 and (not begins or packet == stream.first):
            return  # a packet may be sent twice (2.4.3.3)
        stream.counter = packet[3] & 15
        if step != 1:
            announced = packet[3] & 0x20 and packet[4] and packet[5] & 0x80
            self.discontinuities += not announced
        if begins:
            # Whatever the step: counters that restart at a segment lose no unit.
            if stream.open:
                self._close(stream, units, arrival)
            if not stream.begin(packet, payload):
                self.dropped_packets += 1
                return
        else:
            if not stream.open or step != 1:
                self._out_of_place(stream, lost=step != 1)
                return
            stream.append(payload)
        padded = stream.want is None and stream.trusts_padding and is_stuffed(packet)
        if padded or stream.complete or stream.size > self._max_pes:
            self._close(stream, units, arrival)
            stream.ended_by_padding = padded

    def _out_of_place(self, stream: Elementary, *, lost: bool) -> None:
        """A packet that goes on with a PES of which we do not have all before it."""
        self.dropped_packets += 1
        if stream.open:
            self.dropped_units += 1
            stream.abandon()
        elif stream.ended_by_padding and not lost:
            # Stuffing in the middle of a PES: with this muxer it does not mark the end.
            stream.trusts_padding = False

    def _close(self, stream: Elementary, units: list[AccessUnit], arrival: float) -> None:
        short = stream.want is not None and not stream.complete
        if short or stream.pts is None or stream.size > self._max_pes:
            stream.abandon()
            self.dropped_units += 1
            return
        pts = self._clock.unwrap(stream.pts)
        data = stream.end()
        try:
            if stream.codec is Codec.H264:
                units.append(_picture(data, pts, arrival))
            else:
                opus_packets(data, pts, arrival, units)
        except ParseError:
            self.dropped_units += 1


def _picture(data: bytes, pts: int, arrival: float) -> AccessUnit:
    """The access unit in our form: 4-byte start codes, no delimiter."""
    nals, keyframe = [], False
    for nal in split_annexb(data):
        kind = nal[0] & TYPE_MASK
        if kind != AUD:
            nals.append(nal)
            keyframe |= kind == IDR
    if not nals:
        raise ParseError("a PES without NAL units")
    return AccessUnit(Codec.H264, join_annexb(nals), pts, arrival, keyframe)
