"""A sender of pictures in virtual time, for tests of the receive side."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.protocols.webrtc.h264_payload import packetize
from relay.protocols.webrtc.receive import Picture, VideoReceiver
from relay.protocols.webrtc.rtcp import Nack, parse_compound
from relay.protocols.webrtc.rtp import RtpPacket, parse_rtp, wrap_rtx
from tests.netem import Clock, Link

START = b"\0\0\0\1"
SPS = bytes.fromhex("6742c01fda014016e840000003004000000f23c60ca8")  # 1280x720
PPS = bytes.fromhex("68ce0fc8")
PAYLOAD_TYPE, RTX_PAYLOAD_TYPE = 96, 97
SSRC, RTX_SSRC = 0x1111, 0x2222
FRAME = 3000  # ticks of 90 kHz at 30 pictures a second


def picture(number: int, *, keyframe: bool, size: int = 8000, sets: bool = True) -> bytes:
    """An access unit whose slice says its number; no byte of it is zero."""
    text = f"{number:08d}".encode()
    if not keyframe:
        return START + b"\x41\x9a" + text + b"p" * size
    front = START + SPS + START + PPS if sets else b""
    return front + START + b"\x65\x88\x84" + text + b"k" * size


def number_of(annexb: bytes) -> int:
    nal = annexb.rsplit(START, 1)[1]
    return int(nal[3:11] if nal[0] & 31 == 5 else nal[2:10])


@dataclass
class Sender:
    """Cuts pictures into packets, keeps them, and sends them again when asked."""

    link: Link | None = None
    sequence: int = 100
    timestamp: int = 5000
    ssrc: int = SSRC
    rtx_sequence: int = 40000
    marker: bool = True
    number: int = 0
    history: dict[int, RtpPacket] = field(default_factory=dict)
    sent_units: dict[int, bytes] = field(default_factory=dict)

    def packets(self, annexb: bytes) -> list[RtpPacket]:
        payloads = packetize(annexb)
        made = []
        for index, payload in enumerate(payloads):
            marker = self.marker and index == len(payloads) - 1
            packet = RtpPacket(
                PAYLOAD_TYPE, marker, self.sequence, self.timestamp, self.ssrc, payload
            )
            self.history[self.sequence] = packet
            self.sequence = (self.sequence + 1) & 0xFFFF
            made.append(packet)
        self.timestamp = (self.timestamp + FRAME) & 0xFFFFFFFF
        return made

    def unit(self, *, keyframe: bool = False, size: int = 8000, sets: bool = True) -> bytes:
        """The next picture."""
        made = picture(self.number, keyframe=keyframe, size=size, sets=sets)
        self.sent_units[self.number] = made
        self.number += 1
        return made

    def next(self, *, keyframe: bool = False, size: int = 8000) -> list[RtpPacket]:
        return self.packets(self.unit(keyframe=keyframe, size=size))

    def retransmission(self, sequence: int) -> RtpPacket:
        packet = self.history[sequence]
        self.rtx_sequence = (self.rtx_sequence + 1) & 0xFFFF
        return RtpPacket(
            RTX_PAYLOAD_TYPE,
            packet.marker,
            self.rtx_sequence,
            packet.timestamp,
            RTX_SSRC,
            wrap_rtx(sequence, packet.payload),
        )


class Session:
    """A sender and a receiver, 30 pictures a second, over two links in virtual time."""

    def __init__(
        self, clock: Clock, *, forward: Link, back_delay: float, receiver: VideoReceiver
    ) -> None:
        self.clock = clock
        self.forward = forward
        self.receiver = receiver
        self.sender = Sender()
        self.got: list[Picture] = []
        self.keyframe_requests: list[float] = []
        self.back = Link(clock, self._feedback, delay=back_delay, seed=99)
        self.want_keyframe = True
        self._woken_at = float("inf")

    def start(self, frames: int) -> None:
        for index in range(frames):
            self.clock.at(self.clock.now + index / 30, self._frame)

    def _frame(self) -> None:
        keyframe, self.want_keyframe = self.want_keyframe, False
        for packet in self.sender.next(keyframe=keyframe, size=30_000 if keyframe else 7000):
            self.forward.send(packet.serialise())

    def arrive(self, data: bytes) -> None:
        self.got += self.receiver.feed(parse_rtp(data), self.clock.now)
        self._wake()

    def _wake(self) -> None:
        """Poll when the receiver says so, as a session's timer does."""
        now = self.clock.now
        if self.receiver.wake_at <= now:
            result = self.receiver.poll(now)
            self.got += result.pictures
            if result.nack:
                self.back.send(Nack(1, SSRC, result.nack).serialise())
            if result.keyframe:
                self.keyframe_requests.append(now)
                self.clock.at(now + 0.01, self._keyframe_asked)
        assert self.receiver.wake_at > now
        if self.receiver.wake_at < self._woken_at:
            self._woken_at = self.receiver.wake_at
            self.clock.at(self._woken_at, self._timer)

    def _timer(self) -> None:
        self._woken_at = float("inf")
        self._wake()

    def _keyframe_asked(self) -> None:
        self.want_keyframe = True

    def _feedback(self, data: bytes) -> None:
        for packet in parse_compound(data):
            assert isinstance(packet, Nack)
            for sequence in packet.sequences:
                if sequence not in self.sender.history:
                    continue  # asked for on suspicion: it was never sent
                self.forward.send(self.sender.retransmission(sequence).serialise())
