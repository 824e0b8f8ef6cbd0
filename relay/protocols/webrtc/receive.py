"""RTP in, access units out: the receive side of one video stream.

Pure: ``now`` comes in, ``wake_at`` goes out. The owner feeds each packet, and calls
``poll`` whenever ``wake_at`` has come, which may be at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final

from relay.media.h264 import ParameterSets
from relay.media.unit import VIDEO_CLOCK
from relay.protocols.webrtc.h264_payload import Assembled, Depacketizer, lacks_front
from relay.protocols.webrtc.picture import Picture, Poll, Run
from relay.protocols.webrtc.reception import RESTART_STEP, Received, Reception
from relay.protocols.webrtc.repair import Repair
from relay.protocols.webrtc.rtp import RtpPacket, unwrap_rtx

__all__ = ["Picture", "Poll", "Run", "VideoReceiver"]

GIVE_UP: Final = 0.25
"""Seconds after which a hole in the video is not waited for any more."""

ASK_FOR_KEYFRAME: Final = 0.2
"""Seconds after which the key frame is asked for that will be needed if a hole stays."""

GIVE_UP_WITHOUT_NACK: Final = 0.1
"""The same where nobody answers requests: only reordering can fill a hole."""

MAX_GAP: Final = 1000
"""Packets missing in a row that are still asked for."""

MAX_HELD: Final = 1500
"""Packets kept behind a hole."""

FIRST_KEYFRAME_WAIT: Final = 0.1
"""Seconds that a stream has to begin with a key frame of its own."""

EARLIER: Final = 16
"""Packets before the first one that are asked for where it is of a key frame and not its
front: the front was lost, or comes late."""

ASK_AGAIN: Final = 0.5
"""Seconds between two requests for the same key frame."""

ASK_EARLIEST: Final = 0.3
"""Seconds between two requests for any; encoders answer no faster."""

SEEK_AGAIN: Final = 0.05
"""Seconds between two looks at all that is held for a key frame, as holes are given up."""

_RETIRED_FOR: Final = 0.5  # seconds; late packets of a stream that was replaced


class VideoReceiver(Received):
    """One H.264 stream: complete pictures in order, from a key frame on.

    A picture leaves on its marker bit, or when the next one begins. A hole is asked for
    at once and again by timer; one that stays is given up, and nothing leaves until the
    next key frame. A new SSRC is a new encoder.

    Attributes:
        wake_at: when to call ``poll``.
        sets: those of the stream that is received now.
        waiting_for_keyframe: nothing can be shown before the next one.
        packets, octets: all that came for it, retransmissions and probes included.
        frames, broken, undecodable: pictures passed on; dropped since parts of them were
            wrong or lost; dropped since the key frame before them was missing.
        holes_given_up, late, recovered, unknown: packets lost for good make holes; came too
            late or twice; came by retransmission; belong to nothing that is known.
    """

    def __init__(
        self,
        payload_type: int,
        *,
        rtx_payload_type: int | None = None,
        ssrc: int | None = None,
        rtx_ssrc: int | None = None,
        nack: bool = True,
    ) -> None:
        """
        Args:
            ssrc: what the sender declared, if it did.
            rtx_ssrc: of its retransmissions, if declared; learned otherwise.
        """
        super().__init__(VIDEO_CLOCK)
        self._payload_type = payload_type
        self._rtx_payload_type = rtx_payload_type
        self._declared = (ssrc, rtx_ssrc)
        self._rtx_ssrc: int | None = None
        self._retired: int | None = None
        self._nack = nack
        self.sets = ParameterSets()
        self._depacketizer = Depacketizer()
        self._repair = self._new_repair()
        self._held: dict[int, RtpPacket] = {}
        self._next = 0  # to be read next
        self._top = 0  # never seen yet; equal to _next exactly when nothing is missing
        self._timestamp: int | None = None
        self._out: list[Picture] = []
        self.waiting_for_keyframe = True
        self._ask_at = inf
        self._asked_at = -inf
        self._arrived_at = self._sought_at = -inf
        self.wake_at = inf
        self.packets = 0
        self.octets = 0
        self.frames = 0
        self.broken = 0
        self.undecodable = 0
        self.holes_given_up = 0
        self.late = 0
        self.recovered = 0
        self.unknown = 0

    # -- what the owner calls

    def feed(self, packet: RtpPacket, now: float) -> Sequence[Picture]:
        """Take one packet in; the pictures that it completes, mostly none."""
        retransmitted = packet.payload_type != self._payload_type
        if retransmitted:
            original = self._unwrap(packet)
            if original is None or self._reception is None:
                return ()
            packet = original
            extended: int | None = self._reception.place(packet.sequence)
            if extended is not None and extended >= self._top:
                self.unknown += 1  # the stream itself says how far it is, not its copies
                return ()
        else:
            if packet.ssrc != self.ssrc and not self._switch(packet, now):
                return ()
            assert self._reception is not None
            extended = self._reception.arrived(packet.sequence, packet.timestamp, now)
        self.packets += 1
        self.octets += len(packet.payload)
        self._arrived_at = now
        if extended is None:
            return ()
        if extended == self._next == self._top:
            self._next = self._top = extended + 1
            self._accept(packet, now)
        else:
            self._insert(packet, extended, now, retransmitted)
        if self.waiting_for_keyframe or self._held:
            self._plan(now)
        if not self._out:
            return ()
        pictures = self._out
        self._out = []
        return pictures

    @property
    def to_come(self) -> int | None:
        """The sequence number that comes next, where nothing is missing or half done."""
        reception = self._reception
        if reception is None or self._held or not self._depacketizer.empty:
            return None
        if not self._next == self._top == reception.highest + 1:
            return None
        return self._next & 0xFFFF

    def assembled(self, unit: Assembled, timestamp: int, now: float) -> Sequence[Picture]:
        """Take an access unit in that was made elsewhere of the packets from ``to_come`` on.

        They are to be ``counted`` before anything else is fed or asked.
        """
        self._timestamp = timestamp
        self._finish(now, unit)
        if self.waiting_for_keyframe:
            self._plan(now)
        pictures = self._out
        self._out = []
        return pictures

    def counted(self, run: Run) -> None:
        """Take in account what came from ``to_come`` on."""
        reception = self._reception
        assert reception is not None
        reception.continued(run.packets, run.jitter, run.measured)
        self.packets += run.packets
        self.octets += run.octets
        self._arrived_at = run.measured[1]
        self._next = self._top = reception.highest + 1
        self.frames += run.pictures

    def poll(self, now: float) -> Poll:
        """Look at the clock: holes to ask for or to give up, a key frame to ask for."""
        self._repair.woken(now)
        doubtful = self._repair.doubtful(now)
        while self._repair.expired(now):
            self._give_up(now)
        nack = tuple(extended & 0xFFFF for extended in self._repair.due(now))
        if self.waiting_for_keyframe:
            keyframe = now >= self._ask_at
        else:
            keyframe = doubtful and now >= self._asked_at + ASK_EARLIEST
        if keyframe:
            self._asked_at = now
            self._ask_at = inf  # asked again when more comes that cannot be shown
        self.wake_at = min(self._repair.wake_at, self._ask_at)
        pictures = self._out
        self._out = []
        return Poll(pictures, nack, keyframe)

    @property
    def requested(self) -> int:
        """Packets asked for, each time counted."""
        return self._repair.requests

    # -- which stream a packet belongs to

    def _switch(self, packet: RtpPacket, now: float) -> bool:
        """A packet of another SSRC: a new stream, unless it is a late one or a probe."""
        quiet = now - self._arrived_at >= _RETIRED_FOR
        if not packet.payload or (packet.ssrc == self._retired and not quiet):
            self.late += 1
            return False
        self._retired = self.ssrc
        self.ssrc = packet.ssrc
        declared, rtx_ssrc = self._declared
        self._rtx_ssrc = rtx_ssrc if declared in (None, packet.ssrc) else None
        self._reception = Reception(VIDEO_CLOCK, packet.sequence, packet.timestamp, now)
        self._repair = self._new_repair()
        self.sets = ParameterSets()
        earlier = EARLIER if lacks_front(packet.payload) else 0
        self._begin_at(packet.sequence - earlier, now + FIRST_KEYFRAME_WAIT)
        return True

    def _new_repair(self) -> Repair:
        if self._nack:
            return Repair(nack=True, doubt=ASK_FOR_KEYFRAME, give_up=GIVE_UP)
        return Repair(nack=False, doubt=GIVE_UP_WITHOUT_NACK, give_up=GIVE_UP_WITHOUT_NACK)

    def _begin_at(self, extended: int, ask_at: float) -> None:
        self._held.clear()
        self._repair.forget(extended)
        self._depacketizer.reset()
        self._timestamp = None
        self._next = self._top = extended
        self.waiting_for_keyframe = True
        self._ask_at = ask_at

    def _unwrap(self, packet: RtpPacket) -> RtpPacket | None:
        if packet.payload_type != self._rtx_payload_type or self.ssrc is None:
            self.unknown += 1
            return None
        if self._rtx_ssrc is not None and packet.ssrc != self._rtx_ssrc:
            self.unknown += 1
            return None
        original = unwrap_rtx(packet, self._payload_type, self.ssrc)
        if original is not None and self._rtx_ssrc is None:
            assert self._reception is not None
            if self._reception.place(original.sequence) not in self._repair:
                self.unknown += 1
                return None
            self._rtx_ssrc = packet.ssrc
        return original

    # -- the order of packets

    def _insert(self, packet: RtpPacket, extended: int, now: float, retransmitted: bool) -> None:
        if extended < self._next or extended in self._held:
            self.late += 1
            return
        fills = extended < self._top
        if not fills:
            gap = extended - self._top
            if gap > MAX_GAP or (gap and not self._repair.has_room(gap, now)):
                if gap > RESTART_STEP:
                    self.sets = ParameterSets()
                self._begin_at(extended, now)
            elif extended > self._top:
                self._repair.missed(self._top, extended, now)
            self._top = extended + 1
        else:
            self._repair.filled(extended, now, retransmitted=retransmitted)
            self.recovered += retransmitted
        self._held[extended] = packet
        self._drain(now)
        if len(self._held) > MAX_HELD:
            self._give_up(now)
        if self.waiting_for_keyframe and (packet.marker or fills) and extended in self._held:
            self._seek_keyframe(extended, now)

    def _drain(self, now: float) -> None:
        held = self._held
        while held:
            packet = held.pop(self._next, None)
            if packet is None:
                return
            self._next += 1
            self._accept(packet, now)

    def _give_up(self, now: float) -> None:
        """The oldest hole stays one: go on behind it, and wait for a key frame."""
        self.holes_given_up += 1
        if not self._depacketizer.empty:
            self._depacketizer.spoil()
        waited = self.waiting_for_keyframe
        self._lose(now)
        while self._next < self._top and self._next not in self._held:
            self._next += 1
        self._repair.forget(self._next)
        self._drain(now)
        if waited and now < self._sought_at + SEEK_AGAIN:
            return  # what has come since was looked at as it came
        self._sought_at = now
        for extended in sorted(at for at, packet in self._held.items() if packet.marker):
            if self.waiting_for_keyframe and extended in self._held:
                self._seek_keyframe(extended, now)

    def _seek_keyframe(self, at: int, now: float) -> None:
        """A whole key frame behind a hole: what is missing before it matters no more."""
        held = self._held
        timestamp = held[at].timestamp
        first = last = at
        while (
            first - 1 in held
            and held[first - 1].timestamp == timestamp
            and not held[first - 1].marker
        ):
            first -= 1
        while not held[last].marker:
            last += 1
            if last not in held or held[last].timestamp != timestamp:
                return
        scratch = Depacketizer()
        for extended in range(first, last + 1):
            scratch.push(held[extended].payload)
        found = scratch.take()
        whole_front = found.parameters or first - 1 in held
        if not (found.intact and found.keyframe and found.starts and whole_front):
            return
        for extended in [earlier for earlier in held if earlier < first]:
            del held[extended]
        self._repair.forget(first)
        self._depacketizer.reset()
        self._timestamp = None
        self._next = first
        self._drain(now)

    # -- pictures

    def _accept(self, packet: RtpPacket, now: float) -> None:
        """The next packet in order."""
        if not packet.payload:
            return
        if packet.timestamp != self._timestamp:
            if not self._depacketizer.empty:  # the last picture had no marker
                self._finish(now, self._depacketizer.take())
            self._timestamp = packet.timestamp
        self._depacketizer.push(packet.payload)
        if packet.marker:
            self._finish(now, self._depacketizer.take())

    def _finish(self, now: float, unit: Assembled) -> None:
        annexb, intact, parameters, picture, keyframe, starts = unit
        if not intact:
            self.broken += 1
            self._lose(now)
            return
        sps = None
        if keyframe or not picture:
            annexb, sps = self.sets.apply(annexb)
        if not picture:
            return
        if not self.admits(now):
            self._lose(now)
            return
        if self.waiting_for_keyframe:
            # Without any parameter set no decoder can begin here.
            if not (keyframe and starts and (parameters or sps is not None)):
                self.undecodable += 1
                self._ask_at = min(self._ask_at, max(now, self._asked_at + ASK_AGAIN))
                return
            self.waiting_for_keyframe = False
            self._ask_at = inf
        self.frames += 1
        assert self._timestamp is not None
        self._out.append(Picture(annexb, self._timestamp, now, keyframe, sps))

    def _lose(self, now: float) -> None:
        if not self.waiting_for_keyframe:
            self.waiting_for_keyframe = True
            self._ask_at = max(now, self._asked_at + ASK_EARLIEST)

    def _plan(self, now: float) -> None:
        if self.waiting_for_keyframe and self._ask_at == inf:
            self._ask_at = self._asked_at + ASK_AGAIN
        self.wake_at = min(self._repair.wake_at, self._ask_at)
