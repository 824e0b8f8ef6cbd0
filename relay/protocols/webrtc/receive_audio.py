"""RTP in, Opus packets out: the receive side of one audio stream.

Pure, as ``receive``: ``now`` comes in, ``wake_at`` goes out. Nothing is asked for
again: sound that is late is of no use, and Opus conceals what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final, NamedTuple

from relay.protocols.webrtc.picture import Run
from relay.protocols.webrtc.reception import Received, Reception
from relay.protocols.webrtc.rtp import RtpPacket

AUDIO_CLOCK: Final = 48_000

REORDER_WAIT: Final = 0.04
"""Seconds that a packet waits for one before it: two packets of the usual 20 ms."""

MAX_HELD: Final = 32
"""Packets kept behind a hole."""

_MAX_GAP: Final = 1000
_RETIRED_FOR: Final = 0.5


class AudioPacket(NamedTuple):
    """One Opus packet; ``timestamp`` as it came, 32 bits at 48 kHz."""

    payload: bytes
    timestamp: int
    arrival: float


class SoundStanding(NamedTuple):
    """How far a stream is, for whoever passes its packets on from there.

    Attributes:
        ticks: timestamp of the last one, on a line of 48 kHz that does not run over.
        offset: from there to the publisher's line of 90 kHz.
        arrival: of it.
        budget: packets that may yet be passed on, see ``budget.Budget.state``.
    """

    ticks: int
    offset: int
    arrival: float
    budget: tuple[float, float]


class AudioReceiver(Received):
    """One Opus stream in order: at once when nothing is missing, else after a short wait.

    Attributes:
        payload_type: of its packets.
        wake_at: when to call ``poll``.
        packets, octets: all that came for it.
        late, skipped, unknown: came too late or twice; holes gone over; of another kind.
    """

    def __init__(self, payload_type: int) -> None:
        super().__init__(AUDIO_CLOCK)
        self.payload_type = payload_type
        self._held: dict[int, tuple[RtpPacket, float]] = {}
        self._next = 0
        self._retired: int | None = None
        self._arrived_at = -inf
        self.wake_at = inf
        self.packets = 0
        self.octets = 0
        self.late = 0
        self.skipped = 0
        self.unknown = 0

    def feed(self, packet: RtpPacket, now: float) -> Sequence[AudioPacket]:
        """Take one packet in; the packets that may leave, mostly this one."""
        if packet.payload_type != self.payload_type:
            self.unknown += 1
            return ()
        if packet.ssrc != self.ssrc and not self._switch(packet, now):
            return ()
        assert self._reception is not None
        extended = self._reception.arrived(packet.sequence, packet.timestamp, now)
        self.packets += 1
        self.octets += len(packet.payload)
        self._arrived_at = now
        if extended is None:
            return ()
        if extended == self._next and not self._held:
            self._next = extended + 1
            if not packet.payload or not self.admits(now):
                return ()
            return (AudioPacket(packet.payload, packet.timestamp, now),)
        if extended < self._next or extended in self._held:
            self.late += 1
            return ()
        if extended - self._next > _MAX_GAP:
            self._held.clear()
            self._next = extended
        self._held[extended] = (packet, now)
        return self.poll(now)

    @property
    def to_come(self) -> int | None:
        """The sequence number that comes next, where nothing is missing."""
        reception = self._reception
        if reception is None or self._held or self._next != reception.highest + 1:
            return None
        return self._next & 0xFFFF

    def counted(self, run: Run, arrival: float) -> None:
        """Take in account what came from ``to_come`` on, the last of it then."""
        reception = self._reception
        assert reception is not None
        reception.continued(run.packets, run.jitter, run.measured)
        self.packets += run.packets
        self.octets += run.octets
        self._arrived_at = arrival
        self._next = reception.highest + 1

    def poll(self, now: float) -> Sequence[AudioPacket]:
        """What may leave: all in order, and what has waited long enough behind a hole."""
        out: list[AudioPacket] = []
        held = self._held
        while held:
            if self._next not in held:
                first = min(held)
                if now < held[first][1] + REORDER_WAIT and len(held) <= MAX_HELD:
                    break
                self.skipped += 1
                self._next = first
            packet, arrival = held.pop(self._next)
            self._next += 1
            if packet.payload and self.admits(now):
                out.append(AudioPacket(packet.payload, packet.timestamp, arrival))
        self.wake_at = held[min(held)][1] + REORDER_WAIT if held else inf
        return out

    def _switch(self, packet: RtpPacket, now: float) -> bool:
        quiet = now - self._arrived_at >= _RETIRED_FOR
        if not packet.payload or (packet.ssrc == self._retired and not quiet):
            self.late += 1
            return False
        self._retired = self.ssrc
        self.ssrc = packet.ssrc
        self._reception = Reception(AUDIO_CLOCK, packet.sequence, packet.timestamp, now)
        self._held.clear()
        self._next = packet.sequence
        self.wake_at = inf
        return True
