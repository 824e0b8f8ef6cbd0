"""A publisher's media in native hands (``native/receive.c``), as Python sees it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, Protocol

from relay.protocols.webrtc.datagrams import packed
from relay.protocols.webrtc.h264_payload import Assembled
from relay.protocols.webrtc.native_consent import NativeConsent
from relay.protocols.webrtc.path import Path
from relay.protocols.webrtc.peer_state import PeerStatistics
from relay.protocols.webrtc.picture import Run, Standing
from relay.protocols.webrtc.receive import VideoReceiver
from relay.protocols.webrtc.receive_audio import AudioReceiver, SoundStanding
from relay.protocols.webrtc.srtp import NativeKeys

if TYPE_CHECKING:
    from relay.protocols.webrtc.native_receive import NativeReceiver

_ARRIVAL: Final = struct.Struct("=dI4x")

LATE: Final = 0.5
"""Seconds after which a report has not left: it goes with a picture, and none has come."""

# What an access unit holds (see ``Assembled``), and whether arrivals wait.
PARAMETERS, PICTURE, KEYFRAME, STARTS, ARRIVALS = 1, 2, 4, 8, 16


Reporting = tuple[int, int, tuple[int, float]]
"""See ``Reception.reporting``."""


class LaneOwner(Protocol):
    """What is told of a publisher's media."""

    def opened(self, packet: bytes, now: float) -> None:
        """One RTP packet in order, opened, its arrival noted: the native part goes no further."""

    def assembled(self, annexb: bytes, flags: int, timestamp: int, now: float) -> None:
        """One access unit that is to be judged; ``flags`` as above."""

    def counted(self, run: Run) -> None:
        """What has come since the last time."""

    def sounded(self, run: Run, standing: SoundStanding) -> None:
        """The same of sound, and how far it is."""

    def noted(self, now: float) -> None:
        """Arrivals wait, for long or many: for ``Lane.feedback``, else in ``Lane.arrivals``."""

    def told(self, feedback: tuple[int, int]) -> None:
        """Feedback goes on from there; see ``FeedbackBuilder.standing``."""

    def reported(self, highest: int, sound: int | None, due: float) -> None:
        """Receiver reports go on from there; see ``Reception.reported``."""


class _Nobody:
    """Whom a closed lane belongs to."""

    def opened(self, packet: bytes, now: float) -> None:
        return

    def assembled(self, annexb: bytes, flags: int, timestamp: int, now: float) -> None:
        return

    def counted(self, run: Run) -> None:
        return

    def sounded(self, run: Run, standing: SoundStanding) -> None:
        return

    def noted(self, now: float) -> None:
        return

    def told(self, feedback: tuple[int, int]) -> None:
        return

    def reported(self, highest: int, sound: int | None, due: float) -> None:
        return


def unit_of(annexb: bytes, flags: int) -> Assembled:
    return Assembled(
        annexb,
        True,
        flags & PARAMETERS != 0,
        flags & PICTURE != 0,
        flags & KEYFRAME != 0,
        flags & STARTS != 0,
    )


class Lane:
    """One publisher's video: in native hands as long as all is in order; and its sound beside it.

    Attributes:
        path: where it comes from; it knows when that was last.
        ssrc: of its packets, 4 bytes.
        consent: on the path that receiver reports of ours leave by.
    """

    def __init__(
        self,
        receiver: NativeReceiver,
        number: int,
        keys: NativeKeys,
        payload_type: int,
        extension: int,
        owner: LaneOwner,
    ) -> None:
        self._receiver = receiver
        self._number = number
        self._keys = keys  # held as long as the native part may use them
        self._owner: LaneOwner = owner
        self.path: Path | None = None
        self.ssrc = b""
        srtp = receiver.ffi.cast("void *", keys.pointer)
        made = receiver.lib.rx_open(receiver.rx, srtp, payload_type, extension, number)
        if made == receiver.ffi.NULL:
            raise MemoryError("no memory for a native stream")
        self._stream: Any = made
        self._sending: NativeKeys | None = None  # held likewise; None: reports are the owner's
        self._front: tuple[bytes, int, int] | None = None
        self.consent = NativeConsent(receiver, made.consent, lambda raw: True)

    @property
    def active(self) -> bool:
        return self._stream is not None and bool(self._stream.active)

    @property
    def sounds(self) -> bool:
        """Sound is in native hands too, as long as the video is."""
        return self._stream is not None and bool(self._stream.sound.flows)

    def resume(self, path: Path, video: VideoReceiver) -> None:
        """Take over from where ``video`` is, if nothing is missing there."""
        stream, receiver, sequence = self._stream, self._receiver, video.to_come
        if stream is None or sequence is None or video.ssrc is None:
            return
        self._leave()
        self.take_reports()
        self.path, self.ssrc = path, video.ssrc.to_bytes(4, "big")
        path.stream, stream.heard = stream, path.seen
        jitter = stream.jitter
        jitter.ticks, (jitter.timestamp, jitter.at) = video.measured
        raw = packed(path.address)
        receiver.lib.rx_resume(receiver.rx, stream, raw, len(raw), video.ssrc, sequence)

    def go_on(self, standing: Standing) -> None:
        """Have pictures passed on without being judged, from there on, as long as none needs it."""
        stream = self._stream
        if stream is not None and stream.active:
            stream.pts, stream.shown = standing.pts, standing.pts_timestamp
            stream.shown_at = standing.arrival
            stream.unit_tokens, stream.units_filled_at = standing.budget
            if standing.front is not self._front:
                self._front = standing.front
                head, mask, value = standing.front or (b"", 0, 0)
                self._receiver.lib.rx_know(stream, head, len(head), mask, value)
            stream.plain = 1

    def flush(self) -> None:
        """Hand what is half done over to the owner; it is not ours any more until ``resume``."""
        stream, ffi = self._stream, self._receiver.ffi
        if stream is None:
            return
        self._receiver.lib.rx_pause(stream)
        self.tell()
        self.take_reports()
        whole = bytes(ffi.buffer(stream.bytes, stream.used)) if stream.packets else b""
        train = [
            (whole[packet.start : packet.start + packet.length], packet.arrival)
            for packet in (stream.train[at] for at in range(stream.packets))
        ]
        self._receiver.lib.rx_clear(stream)
        if stream.arrivals:  # those that Python notes itself come after them
            self._owner.noted(stream.log[stream.arrivals - 1].at)
        self.take_feedback()
        for packet, arrival in train:
            self._owner.opened(packet, arrival)

    def unit(self, event: Any) -> None:
        annexb = self._receiver.ffi.buffer(event.data, event.length)[:]
        self._owner.assembled(annexb, event.flags, event.timestamp, event.arrival)

    def tell(self) -> None:
        """Have the owner count what has come since the last time."""
        stream = self._stream
        if stream is None:
            return
        if stream.sound.packets:
            self._tell_sound(stream.sound)
        if not stream.joined:
            return
        packets, octets, pictures = stream.joined, stream.octets, stream.pictures
        stream.joined = stream.octets = stream.pictures = 0
        jitter = stream.jitter
        measured = (jitter.timestamp, jitter.at)
        standing = None
        if pictures:
            budget = (stream.unit_tokens, stream.units_filled_at)
            standing = Standing(stream.pts, stream.shown, stream.shown_at, budget)
        keyframe_at, stream.keyframe_at = stream.keyframe_at, 0.0
        self._owner.counted(
            Run(packets, octets, jitter.ticks, measured, pictures, standing, keyframe_at)
        )

    # -- sound

    def give_sound(self, audio: AudioReceiver, standing: SoundStanding) -> None:
        """Have it passed on natively from where ``audio`` is, if nothing is missing there."""
        stream, sequence = self._stream, audio.to_come
        if stream is None or not stream.active or sequence is None or audio.ssrc is None:
            return
        sound = stream.sound
        sound.ssrc, sound.payload_type, sound.next = audio.ssrc, audio.payload_type, sequence
        sound.ticks, sound.timestamp = standing.ticks, standing.ticks & 0xFFFFFFFF
        sound.offset, sound.heard = standing.offset, standing.arrival
        sound.tokens, sound.filled_at = standing.budget
        jitter = sound.jitter
        jitter.ticks, (jitter.timestamp, jitter.at) = audio.measured
        sound.flows = 1

    def take_sound(self) -> None:
        """Have the owner count what has come, and pass sound on itself until ``give_sound``."""
        if self._stream is not None:
            self.tell()
            self._stream.sound.flows = 0
            self.take_reports()  # they are about both

    def _tell_sound(self, sound: Any) -> None:
        packets, octets = sound.packets, sound.octets
        sound.packets = sound.octets = 0
        jitter, budget = sound.jitter, (sound.tokens, sound.filled_at)
        self._owner.sounded(
            Run(packets, octets, jitter.ticks, (jitter.timestamp, jitter.at)),
            SoundStanding(sound.ticks, sound.offset, sound.heard, budget),
        )

    def noted(self, now: float) -> None:
        self._owner.noted(now)

    def pass_over(self, ssrc: int, until: float) -> None:
        """Have sender reports about that one passed over until then, while all is in order."""
        if self._stream is not None:
            self._stream.look_at[ssrc != self._stream.ssrc] = until

    def note(self, sequence: int, now: float) -> bool:
        """Have a packet told of that came by another way, while feedback is written natively."""
        stream = self._stream
        if stream is None or not stream.tells or stream.arrivals >= len(stream.log):
            return False
        arrival = stream.log[stream.arrivals]
        arrival.at, arrival.sequence = now, sequence
        stream.arrivals += 1
        return True

    def feedback(self, sender: int) -> bytes:
        """Transport-wide feedback about all that waits; b"" where it is not the common case."""
        stream, receiver = self._stream, self._receiver
        if stream is None:
            return b""
        size = receiver.lib.rx_feedback(stream, sender, receiver.feedback)
        packet: bytes = receiver.ffi.buffer(receiver.feedback, size)[:]
        return packet

    def give_feedback(self, standing: tuple[int, int] | None) -> None:
        """Have it written natively, from there on; None: it is not known from where."""
        stream = self._stream
        if stream is not None and stream.active and standing is not None:
            stream.untold, stream.feedbacks = standing
            stream.tells = 1

    def take_feedback(self) -> None:
        """Have the owner write it, until ``give_feedback``."""
        stream = self._stream
        if stream is not None and stream.tells:
            stream.tells = 0
            self._owner.told((stream.untold, stream.feedbacks))

    # -- receiver reports, and the checks of ours that go along

    def give_reports(
        self,
        reporting: Reporting,
        sound: Reporting | None,
        sender: int,
        name: bytes,
        keys: NativeKeys,
        now: float,
    ) -> None:
        """Have them leave natively from now on, as long as all is in order.

        Args:
            reporting: of video.
            sound: of that, where there is some.
            sender: our SSRC.
            name: the packet that goes with each.
            keys: what seals them.
        """
        stream, receiver = self._stream, self._receiver
        if stream is None or not stream.active:
            return
        told = stream.reporting
        told.sounds = sound is not None
        for block, start in ((told.picture, reporting), (told.sound, sound or reporting)):
            block.lost, block.highest = start[0] & 0xFFFFFFFF, start[1] & 0xFFFFFFFF
            block.last_report, block.last_report_at = start[2]
        told.sender = sender
        srtp = receiver.ffi.cast("void *", keys.pointer)
        self._sending = keys
        receiver.lib.rx_report(stream, srtp, name, len(name), now)

    def reports(self, now: float) -> bool:
        """Whether they leave natively, and have done so when they should."""
        stream = self._stream
        return stream is not None and stream.reporting.due > now - LATE

    def heard_clock(self, report: tuple[int, float], *, sound: bool = False) -> None:
        """The publisher's last sender report, for those of ours; see ``Reception.reporting``."""
        if self._stream is not None:
            told = self._stream.reporting
            block = told.sound if sound else told.picture
            block.last_report, block.last_report_at = report

    def take_reports(self) -> None:
        """Have the owner send them, until ``give_reports``."""
        stream = self._stream
        if stream is not None and self._sending is not None:
            told = stream.reporting
            due, told.due = told.due, 0.0
            self._sending = None
            self.consent.ask_no_more()
            sound = told.sound.highest if told.sounds else None
            self._owner.reported(told.picture.highest, sound, due)

    def arrivals(self) -> list[tuple[float, int]]:
        """Arrival and transport-wide sequence number of each packet since the last call."""
        stream = self._stream
        if stream is None or not stream.arrivals:
            return []
        size = _ARRIVAL.size * stream.arrivals
        noted = list(_ARRIVAL.iter_unpack(self._receiver.ffi.buffer(stream.log, size)))
        stream.arrivals = 0
        return noted

    def count(self, statistics: PeerStatistics) -> None:
        """Add what came to nothing since the last call."""
        if (stream := self._stream) is not None:
            statistics.refused += stream.refused
            statistics.limited += stream.route.limited
            stream.refused = stream.route.limited = 0

    def _leave(self) -> None:
        if self.path is not None and self._stream is not None:
            self.path.refresh()
            if self.path.stream is self._stream:
                self.path.stream = None

    def close(self) -> None:
        if self._stream is not None:
            self._leave()
            self.consent.close()
            stream, self._stream = self._stream, None
            self._receiver.lib.rx_close(self._receiver.rx, stream)
            self._receiver.dropped(self._number)
            self._owner = _Nobody()  # who holds the lane
