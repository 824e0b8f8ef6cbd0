"""Native receiving against the Python path: the same packets make the same of both."""

from __future__ import annotations

import gc
import logging
import math
import random
import select
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import pairwise
from pathlib import Path
from types import BuiltinFunctionType
from typing import cast

import pytest

from relay.media.unit import VIDEO_CLOCK, AccessUnit, Codec
from relay.protocols.webrtc import native_library, native_receive
from relay.protocols.webrtc.budget import BURST
from relay.protocols.webrtc.congestion import TransportFeedback
from relay.protocols.webrtc.h264_payload import MAX_UNITS
from relay.protocols.webrtc.ingest import NEXT_CLOCK, IngestSession
from relay.protocols.webrtc.native_lane import KEYFRAME
from relay.protocols.webrtc.native_receive import NativeReceiver
from relay.protocols.webrtc.negotiation import TRANSPORT_CC
from relay.protocols.webrtc.peer import Peer
from relay.protocols.webrtc.reception import UNITS
from relay.protocols.webrtc.rtcp import TRANSPORT_FEEDBACK, TWCC_FORMAT, SenderReport
from relay.protocols.webrtc.rtp import RtpPacket, pack_elements
from tests.protocols.webrtc.fake_peer import FakePeer
from tests.protocols.webrtc.inlet import Inlet, NativeInlet
from tests.protocols.webrtc.live_publisher import Sink
from tests.protocols.webrtc.outlet import parameters
from tests.protocols.webrtc.source import PPS, SPS, SSRC, START, Sender


class Untimed(IngestSession):
    """The test says when it is: no timer of the real clock may come in between."""

    def _arm(self, now: float) -> None:
        """Only the test wakes it."""


class Publisher:
    def __init__(self, inlet: Inlet, *, sound: bool) -> None:
        given = replace(
            parameters(), payload_type=96, rtx_payload_type=97, extensions={TRANSPORT_CC: 3}
        )
        self.peer = FakePeer(given, parameters(Codec.OPUS) if sound else None)
        self._inlet = inlet
        inlet.admit(self.peer)
        self.sink = Sink()
        self.session = Untimed(cast("Peer", self.peer), self.sink)
        self.peer.connect()

    @property
    def told(self) -> list[tuple[bytes, bool, int, float]]:
        return [(u.payload, u.keyframe, u.pts, u.arrival) for u in self.sink.units]

    def give(self, packets: list[bytes], now: float) -> None:
        self._inlet.give(self.peer, packets, now)


class Both:
    """The same packets, both ways."""

    def __init__(self, *, sound: bool = False) -> None:
        self.inlet = NativeInlet()
        self.native = Publisher(self.inlet, sound=sound)
        self.pure = Publisher(Inlet(), sound=sound)
        self.now = 100.0

    def send(self, packets: list[bytes]) -> None:
        self.now += 1 / 30
        for publisher in (self.native, self.pure):
            publisher.give(packets, self.now)

    def same_pictures(self) -> None:
        assert self.native.told == self.pure.told

    def same(self) -> None:
        self.same_pictures()
        ours, theirs = (p.session.statistics() for p in (self.native, self.pure))
        assert replace(ours, keyframe_age=0, bitrate=0, fps=0) == replace(
            theirs, keyframe_age=0, bitrate=0, fps=0
        )
        assert told_by(self.native) == told_by(self.pure)

    def close(self) -> None:
        self.native.peer.end("")
        self.pure.peer.end("")
        self.inlet.close()


def told_by(publisher: Publisher) -> tuple[dict[int, int], list[bytes]]:
    """When each packet came, in ticks, by its transport-wide number; and all other RTCP.

    How many arrivals are told at a time is each path's own.
    """
    publisher.session.noted(0.0)
    publisher.session._arrivals.tell()
    came: dict[int, int] = {}
    others = []
    for data in publisher.peer.rtcp:
        if (data[1], data[0] & 31) != (TRANSPORT_FEEDBACK, TWCC_FORMAT):
            others.append(data)
            continue
        feedback = TransportFeedback.parse(data[4:])
        for index, arrival in enumerate(feedback.arrivals):
            if arrival is not None:
                number = feedback.base + index & 0xFFFF
                came.setdefault(number, feedback.reference * 256 + arrival)
    return came, others


@pytest.fixture(params=["compiled", "python"])
async def both(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Both]:
    """With the turns of the loop in C, and in Python."""
    if request.param == "python":
        monkeypatch.setattr(native_receive, "_reader", lambda size: None)
    made = Both(sound=True)
    assert isinstance(made.inlet.read, BuiltinFunctionType) == (request.param == "compiled")
    yield made
    made.close()


def numbered(packets: list[RtpPacket], first: int) -> list[bytes]:
    """With transport-wide sequence numbers."""
    made = []
    for index, packet in enumerate(packets):
        number = (first + index & 0xFFFF).to_bytes(2, "big")
        packet.profile, packet.extension = pack_elements({3: number})
        made.append(packet.serialise())
    return made


async def test_packets_in_order_reach_python_as_access_units_only(both: Both) -> None:
    sender, sent, first = Sender(sequence=65_500), 65_400, 0
    for index in range(40):
        packets = numbered(sender.next(keyframe=index % 10 == 0), sent)
        sent += len(packets)
        both.send(packets)
        if index == 0:
            first = both.inlet.raised  # the first picture finds the stream
    both.same()
    assert len(both.native.sink.units) == 40
    assert both.inlet.raised == first
    assert both.native.session.statistics().packets == sent - 65_400
    came, _ = told_by(both.native)
    assert len(came) == sent - 65_400


async def test_a_unit_made_natively_is_as_one_that_python_makes(both: Both) -> None:
    sender = Sender()
    for index in range(4):
        both.send(numbered(sender.next(keyframe=index % 2 == 0), 50 * index))
    for unit in both.native.sink.units:
        same = AccessUnit(Codec.H264, unit.payload, unit.pts, unit.arrival, unit.keyframe)
        assert unit == same
        assert repr(unit) == repr(same)
        assert unit.is_video
        assert gc.is_tracked(unit) == gc.is_tracked(same)


async def test_only_pictures_that_could_be_wrong_are_judged(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, judged = both.native.session, 0
    real = session.assembled

    def assembled(annexb: bytes, flags: int, timestamp: int, now: float) -> None:
        nonlocal judged
        judged += 1
        real(annexb, flags, timestamp, now)

    monkeypatch.setattr(session, "assembled", assembled)
    sender = Sender(timestamp=2**32 - 9000)
    for index in range(60):
        both.send(numbered(sender.next(keyframe=index % 20 == 0), 50 * index))
    both.same()
    assert judged == 0, "the first picture finds the stream, and is Python's alone"
    assert len(both.native.sink.units) == 60
    sender.timestamp += 20 * VIDEO_CLOCK  # another clock
    both.send(numbered(sender.next(), 3000))
    assert judged == 1
    both.same()


OTHER_SPS = bytes([*SPS[:3], SPS[3] + 1, *SPS[4:]])  # of the next level


async def test_key_frames_that_say_something_new_are_judged(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, judged = both.native.session, 0
    real = session.assembled

    def assembled(annexb: bytes, flags: int, timestamp: int, now: float) -> None:
        nonlocal judged
        judged += flags & KEYFRAME != 0
        real(annexb, flags, timestamp, now)

    monkeypatch.setattr(session, "assembled", assembled)
    sender, sent = Sender(), 0

    def send(unit: bytes) -> None:
        nonlocal sent
        packets = sender.packets(unit)
        both.send(numbered(packets, sent))
        sent += len(packets)
        both.same()

    send(sender.unit(keyframe=True))
    send(sender.unit(keyframe=True))
    assert judged == 0
    for wanted, unit in enumerate(
        [
            sender.unit(keyframe=True).replace(SPS, OTHER_SPS),
            sender.unit(keyframe=True, sets=False),
            sender.unit(keyframe=True).replace(b"\x65\x88\x84", b"\x65\x88\xb4"),  # of another PPS
        ],
        1,
    ):
        send(unit)
        assert judged == wanted
        send(sender.unit())
    send(START + PPS)  # a set alone may change what the next key frame needs
    send(sender.unit(keyframe=True))
    assert judged == 4
    send(sender.unit(keyframe=True))
    assert judged == 4
    assert [unit.keyframe for unit in both.native.sink.units].count(True) == 7


async def test_a_wish_for_a_key_frame_ends_with_one_that_came_natively(both: Both) -> None:
    sender = Sender()
    both.send(numbered(sender.next(keyframe=True), 0))
    session = both.native.session
    session.request_keyframe()
    session.request_keyframe()  # too soon after the first: it is kept
    assert session._keyframes.wake_at < math.inf
    both.send(numbered(sender.next(keyframe=True), 50))
    session._wake()
    assert session._keyframes.wake_at == math.inf
    assert session._keyframes.sent == 1
    assert session.statistics().keyframe_age is not None


async def test_pictures_that_come_too_fast_are_dropped_alike(both: Both) -> None:
    sender = Sender()
    both.send(numbered(sender.next(keyframe=True), 0))
    both.now += 1
    for index in range(int(2 * UNITS) + 20):
        packets = numbered(sender.next(size=40), 50 + index)
        for publisher in (both.native, both.pure):
            publisher.give(packets, both.now)
    both.same()
    assert len(both.native.sink.units) <= 2 * UNITS + 1
    both.now += 1
    both.send(numbered(sender.next(size=40), 4000))  # there is room again, but nothing to follow
    both.same()
    both.send(numbered(sender.next(keyframe=True), 5000))
    both.send(numbered(sender.next(), 5100))
    both.same()


async def test_a_packet_that_is_looked_at_twice_is_counted_once(both: Both) -> None:
    sender = Sender()
    for index in range(3):
        both.send(numbered(sender.next(keyframe=index == 0), 50 * index))
    lane = both.native.session._lane
    assert lane is not None
    assert lane.active
    before = lane._stream.route.tokens
    both.send(numbered(sender.next(size=2500), 200)[1:2])  # behind a hole
    assert not lane.active
    assert lane._stream.route.tokens == before - 1


async def test_arrivals_are_told_with_pictures_and_no_later_than_every_second(both: Both) -> None:
    sender, sent, told = Sender(), 0, []
    for index in range(20):
        packets = numbered(sender.next(keyframe=index == 0), sent)
        sent += len(packets)
        before = len(both.native.peer.rtcp)
        both.send(packets)
        told.append(len(both.native.peer.rtcp) > before)
    assert all(first or second for first, second in pairwise(told[2:]))


async def test_feedback_stays_native_beside_sound_until_a_number_is_missing(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrivals = both.native.session._arrivals
    built, real = 0, arrivals.tell

    def tell() -> None:
        nonlocal built
        built += 1
        real()

    monkeypatch.setattr(arrivals, "tell", tell)
    sender, sent = Sender(), 65_400

    def send(*, keyframe: bool = False) -> None:
        nonlocal sent
        packets = sender.next(keyframe=keyframe)
        sound = RtpPacket(111, True, 7, 9, 0x77, b"sound")  # takes its turn in the numbers
        both.send(numbered([sound, *packets], sent))
        sent += 1 + len(packets)

    send(keyframe=True)
    for _ in range(4):
        send()
    before, told = built, len(both.native.peer.rtcp)
    for _ in range(40):
        send()
    assert built == before
    assert len(both.native.peer.rtcp) >= told + 15
    sent += 1
    for _ in range(4):
        send()
    assert built == before + 1
    both.same()
    came, _ = told_by(both.native)
    assert len(came) == sent - 65_400 - 1


async def test_arrivals_of_a_picture_that_comes_slowly_are_told_meanwhile(both: Both) -> None:
    sender = Sender()
    both.send(numbered(sender.next(keyframe=True), 0))
    before = len(both.native.peer.rtcp)
    packets = numbered(sender.next(keyframe=True), 500)
    assert len(packets) > 2
    for packet in packets[:-1]:
        both.send([packet])
    assert len(both.native.sink.units) == 1
    assert len(both.native.peer.rtcp) > before


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_becomes_of_the_packets_the_pictures_are_the_same(
    both: Both, seed: int
) -> None:
    dice = random.Random(seed)
    sender, sent = Sender(), 0
    held: list[bytes] = []
    for index in range(60):
        packets = numbered(sender.next(keyframe=index % 12 == 0), sent)
        sent += len(packets)
        out: list[bytes] = []
        for packet in packets:
            chance = dice.random()
            if index < 2 or chance > 0.06:
                out.append(packet)
            elif chance < 0.01:
                out += [packet, packet]
            elif chance < 0.02:
                held.append(packet)
            elif chance < 0.03:  # another payload type
                out += [packet[:1] + bytes([packet[1] ^ 0x02]) + packet[2:], packet]
            elif chance < 0.04:  # another SSRC, no payload
                out += [packet[:8] + b"\x07\x07\x07\x07" + packet[12:14], packet]
            elif chance < 0.05:
                out += [dice.randbytes(dice.randrange(1, 40)), packet]
        if held and dice.random() < 0.5:
            out.insert(dice.randrange(len(out) + 1), held.pop())
        both.send(out)
    both.send(numbered(sender.next(keyframe=True), sent))  # the last of them is whole
    both.same()


AUDIO_SSRC = 0x77
SOUND = 960  # ticks of 48 kHz: 20 ms


class Sounds:
    """Packets of Opus, the one after the other."""

    def __init__(self, *, sequence: int = 65_500, timestamp: int = 2**32 - 20 * SOUND) -> None:
        self.sequence, self.timestamp, self.ssrc = sequence, timestamp, AUDIO_SSRC
        self.sent = 0

    def next(self, payload: bytes | None = None) -> RtpPacket:
        self.sequence = self.sequence + 1 & 0xFFFF
        self.timestamp = self.timestamp + SOUND & 0xFFFFFFFF
        self.sent += 1
        given = b"sound %d" % self.sent if payload is None else payload
        return RtpPacket(111, False, self.sequence, self.timestamp, self.ssrc, given)


async def test_sound_in_order_reaches_python_as_units_only(both: Both) -> None:
    sender, sounds, sent = Sender(), Sounds(), 0

    def send(packets: list[RtpPacket]) -> None:
        nonlocal sent
        both.send(numbered(packets, sent))
        sent += len(packets)

    send(sender.next(keyframe=True))
    send([sounds.next()])  # the first is placed by Python
    first = both.inlet.raised
    for index in range(60):
        picture = sender.next(keyframe=index % 20 == 0)
        send([*picture[:-1], sounds.next(), picture[-1]])
        if index % 3:
            send([sounds.next()])
    assert both.inlet.raised == first
    both.same()
    heard = [unit for unit in both.native.sink.units if not unit.is_video]
    assert [unit.payload for unit in heard] == [
        b"sound %d" % number for number in range(1, sounds.sent + 1)
    ]
    for unit, of_python in zip(heard[1:], heard, strict=False):
        assert unit.pts - of_python.pts == SOUND * VIDEO_CLOCK // 48_000
    last = heard[-1]
    same = AccessUnit(Codec.OPUS, last.payload, last.pts, last.arrival)
    assert last == same
    assert repr(last) == repr(same)
    assert last.is_video is False
    assert gc.is_tracked(last) == gc.is_tracked(same)
    came, _ = told_by(both.native)
    assert len(came) == sent


async def test_sound_goes_on_while_no_picture_comes_and_where_it_was_moved(both: Both) -> None:
    sender, sounds = Sender(), Sounds()
    both.send(numbered(sender.next(keyframe=True), 0))
    for _ in range(4):
        both.send([sounds.next().serialise()])
    first = both.inlet.raised
    for _ in range(20):
        both.send([sounds.next().serialise()])
    assert both.inlet.raised == first
    # The same instant is 0.2 s later on the sound's own clock: it is laid elsewhere.
    for ssrc, timestamp in ((SSRC, sender.timestamp), (AUDIO_SSRC, sounds.timestamp + 9600)):
        clock = SenderReport(ssrc, 0x0123456789ABCDEF, timestamp & 0xFFFFFFFF, 1, 1).serialise()
        for publisher in (both.native, both.pure):
            publisher.peer.on_rtcp(clock, both.now)
    for _ in range(4):
        both.send(numbered(sender.next(), 100))
        both.send([sounds.next().serialise()])
    both.same()


async def test_sound_that_comes_too_fast_is_dropped_alike(both: Both) -> None:
    sender, sounds = Sender(), Sounds()
    both.send(numbered(sender.next(keyframe=True), 0))
    both.send([sounds.next().serialise()])
    both.now += 1
    for _ in range(int(2 * UNITS) + 20):
        packet = sounds.next().serialise()
        for publisher in (both.native, both.pure):
            publisher.give([packet], both.now)
    both.same()
    assert len(both.native.sink.units) <= 2 * UNITS + 2
    both.now += 1
    both.send([sounds.next().serialise()])
    both.same()


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_becomes_of_the_sound_it_is_the_same(both: Both, seed: int) -> None:
    dice = random.Random(seed)
    sender, sounds, sent = Sender(), Sounds(), 0
    held: list[bytes] = []
    natively = 0
    for index in range(100):
        packets = sender.next(keyframe=index % 12 == 0)
        for _ in range(dice.randrange(3)):
            packets.insert(dice.randrange(len(packets) + 1), sounds.next())
        out: list[bytes] = []
        for packet in numbered(packets, sent):
            sound, chance = packet[1] & 0x7F == 111, dice.random()
            if index < 2 or chance > (0.2 if sound else 0.01):
                out.append(packet)
            elif chance < 0.04:
                out += [packet, packet]
            elif chance < 0.08:
                held.append(packet)
            elif chance < 0.10:
                out.append(packet[:12] + packet[20:20])  # no payload
        sent += len(packets)
        chance = dice.random()
        if chance < 0.02:
            sounds.timestamp += dice.choice([-60_000, -500, 30_000_000])
        elif chance < 0.03:
            sounds.ssrc ^= 1
        elif chance < 0.06:
            line = sounds.timestamp + dice.choice([0, 4800, -4800])
            for ssrc, at in ((SSRC, sender.timestamp), (sounds.ssrc, line)):
                ntp = (index << 32) // 30 + (1 << 40)
                clock = SenderReport(ssrc, ntp, at & 0xFFFFFFFF, 1, 1).serialise()
                for publisher in (both.native, both.pure):
                    publisher.peer.on_rtcp(clock, both.now)
        if held and dice.random() < 0.5:
            out.insert(dice.randrange(len(out) + 1), held.pop())
        both.send(out)
        for publisher in (both.native, both.pure):
            session = publisher.session
            if session._sound is not None and session._sound.audio.wake_at <= both.now:
                session._sound.poll(both.now)
        lane = both.native.session._lane
        natively += lane is not None and lane.active and lane.sounds
    both.send(numbered(sender.next(keyframe=True), sent))
    both.same()
    assert natively > 20


Change = Callable[[list[RtpPacket]], None]


def unmarked(packets: list[RtpPacket]) -> None:
    packets[-1].marker = False


def cut(packets: list[RtpPacket]) -> None:
    packets[1].payload = packets[1].payload[:2]


def in_the_middle(packets: list[RtpPacket]) -> None:
    packets[2].payload = b"\x41\x9aslice"


def interleaved(packets: list[RtpPacket]) -> None:
    packets[2].payload = b"\x59\x00\x00"


def overlong(packets: list[RtpPacket]) -> None:
    packets[-1].payload = b"\x78\x00\x09short"


def aggregated(packets: list[RtpPacket]) -> None:
    packets[-1].payload = b"\x78\x00\x02\x09\xf0\x00\x00\x00\x03\x41\x9ax\x00\x01\x0c"


def two_at_once(packets: list[RtpPacket]) -> None:
    packets[2].timestamp += 90


@pytest.mark.parametrize(
    "change", [unmarked, cut, in_the_middle, interleaved, overlong, aggregated, two_at_once]
)
async def test_pictures_that_are_not_right_are_judged_alike(both: Both, change: Change) -> None:
    sender, sent = Sender(), 0
    for index in range(12):
        packets = sender.next(keyframe=index in (0, 8))
        if index in (3, 4, 9):
            change(packets)
        both.send(numbered(packets, sent))
        sent += len(packets)
    both.same()


@pytest.mark.parametrize(("units", "shown"), [(MAX_UNITS, 4), (MAX_UNITS + 1, 2)])
async def test_the_units_of_an_aggregate_are_bounded_alike(
    both: Both, units: int, shown: int
) -> None:
    sender, raised = Sender(), 0
    for index in range(4):
        (packet,) = packets = sender.next(keyframe=index in (0, 3), size=20)
        if index == 1:
            packet.payload = b"\x78" + b"\x00\x03\x41\x9ax" * units
        both.send(numbered(packets, index))
        raised = raised or both.inlet.raised
    both.same()
    assert len(both.native.sink.units) == shown
    assert both.inlet.raised == raised


async def test_clocks_that_are_known_are_looked_at_now_and_then(both: Both) -> None:
    sender = Sender()
    session, peer = both.native.session, both.native.peer
    both.send(numbered(sender.next(keyframe=True), 0))
    lane = session._lane
    assert lane is not None

    def looked_at(ssrc: int) -> bool:
        before = both.inlet.raised
        both.native.give([SenderReport(ssrc, 1 << 32, 7, 1, 1).serialise()], both.now)
        return both.inlet.raised > before

    assert looked_at(SSRC)
    assert looked_at(SSRC)
    both.now = session._settled_at + 1
    for ssrc in (SSRC, 0x77):
        peer.on_rtcp(SenderReport(ssrc, 1 << 32, 7, 1, 1).serialise(), both.now)
        assert not looked_at(SSRC)
    both.now += NEXT_CLOCK - 0.1
    assert not looked_at(SSRC)
    assert not looked_at(0x77)
    both.now += 0.2
    assert looked_at(SSRC)
    assert looked_at(0x77)
    peer.on_rtcp(SenderReport(SSRC, 1 << 32, 7, 1, 1).serialise(), both.now)
    assert not looked_at(SSRC)
    assert looked_at(0x77)
    both.send([*numbered(sender.next(), 50)[:1], *numbered(sender.next(), 70)])
    assert not lane.active
    assert looked_at(SSRC), "something is missing: nothing is passed over"


async def test_a_packet_that_is_forged_changes_nothing(both: Both) -> None:
    sender = Sender()
    both.inlet.forged = 0xEE
    both.send(numbered(sender.next(keyframe=True), 0))
    packets = numbered(sender.next(), 50)
    both.native.give([packets[0][:-1] + b"\xee"], both.now)
    both.send(packets)
    both.same()
    assert len(both.native.sink.units) == 2
    both.native.session._reporting.tell(both.now)
    assert both.native.peer.statistics.refused == 1


async def test_an_address_that_is_given_up_is_the_native_parts_no_more(both: Both) -> None:
    sender = Sender()
    both.send(numbered(sender.next(keyframe=True), 0))
    raised = both.inlet.raised
    heard = both.native.peer.heard
    assert heard is not None
    both.inlet.receiver.forget(heard.address)
    packets = numbered(sender.next(), 50)
    both.send(packets)
    assert both.inlet.raised == raised + len(packets)
    both.send(numbered(sender.next(), 60))
    assert both.inlet.raised == raised + len(packets)
    both.same()


async def test_what_is_half_done_at_the_end_is_freed(both: Both) -> None:
    sender = Sender()
    both.send(numbered(sender.next(keyframe=True), 0))
    both.send(numbered(sender.next()[:3], 50))
    both.native.peer.end("over")
    both.send(numbered(sender.next(), 60))
    assert len(both.native.sink.units) == 1


async def test_more_packets_than_a_peer_may_send_are_dropped_unread(both: Both) -> None:
    sender = Sender()
    both.send(numbered(sender.next(keyframe=True), 0))
    opened = both.inlet.opened
    (packet,) = numbered(sender.next(size=100), 50)
    both.inlet.forged = packet[-1]
    number = int(3 * BURST)
    both.native.give([packet] * number, both.now)
    assert both.inlet.opened - opened <= 2 * BURST + 50
    both.native.session._reporting.tell(both.now)
    assert both.native.peer.statistics.limited >= number - 2 * BURST - 50


async def test_a_picture_without_an_end_is_held_up_to_a_bound(both: Both) -> None:
    sender = Sender()
    both.send(numbered(sender.next(keyframe=True), 0))
    size = 2500
    packets = sender.packets(sender.unit(size=size * 1178))[: size - 100]
    both.native.give(numbered(packets[:800], 50), both.now)
    lane = both.native.session._lane
    assert lane is not None
    assert lane.active
    assert lane._stream.room <= 2 << 20
    both.native.give(numbered(packets[800:], 850), both.now)
    assert not lane.active
    assert lane._stream.packets == 0
    both.pure.give(numbered(packets, 50), both.now)
    both.send(numbered(sender.next(keyframe=True), 3000))
    both.same()


def _readable(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])


async def test_the_rest_of_a_picture_that_has_begun_is_read_together(both: Both) -> None:
    sender = Sender()
    both.send(numbered(sender.next(keyframe=True), 0))
    watched = both.inlet.receiver.watch()
    packets = numbered(sender.next(keyframe=True), 500)
    into = both.inlet._into.getsockname()
    way = both.inlet._sockets[id(both.native.peer)]

    def give(some: list[bytes]) -> None:
        for packet in some:
            way.sendto(packet, into)

    assert not _readable(watched, 0)
    give(packets[:2])
    assert _readable(watched, 1)
    assert both.inlet.read() == 2
    give(packets[2:])
    assert _readable(both.inlet._into.fileno(), 0)
    assert _readable(watched, 1), "the rest is waited for, and not for ever"
    assert both.inlet.read() == len(packets) - 2
    assert len(both.native.sink.units) == 2
    assert not _readable(watched, 0.01), "nothing has begun"
    give(numbered(sender.next(), 600)[:1])
    assert _readable(watched, 0)


async def test_a_picture_that_stays_half_is_waited_for_once(both: Both) -> None:
    sender = Sender()
    both.send(numbered(sender.next(keyframe=True), 0))
    watched = both.inlet.receiver.watch()
    way, into = both.inlet._sockets[id(both.native.peer)], both.inlet._into.getsockname()
    way.sendto(numbered(sender.next(keyframe=True), 500)[0], into)
    assert both.inlet.read() == 1
    assert _readable(watched, 1)
    assert both.inlet.read() == 0
    assert not _readable(watched, 0.01)
    way.sendto(b"\x00", into)
    assert _readable(watched, 1)


async def test_a_sink_that_fails_or_ends_it_in_mid_turn_is_survived(both: Both) -> None:
    sender = Sender()
    both.send(numbered(sender.next(keyframe=True), 0))
    pictures = [numbered(sender.next(size=100), 50 + at) for at in range(6)]

    def fail(unit: AccessUnit) -> None:
        raise RuntimeError("no room")

    way, into = both.inlet._sockets[id(both.native.peer)], both.inlet._into.getsockname()
    lane = both.native.session._lane
    assert lane is not None
    shows = both.inlet.receiver._shows
    (number,) = shows
    shows[number] = fail
    way.sendto(pictures[0][0], into)
    with pytest.raises(RuntimeError, match="no room"):
        both.inlet.read()
    shows[number] = lambda unit: both.native.peer.end("over")
    for picture in pictures[1:]:
        way.sendto(picture[0], into)
    assert both.inlet.read() == 5
    assert not shows
    assert both.native.session.is_closed
    before = sys.getrefcount(both.inlet.receiver)
    for _ in range(100):
        both.inlet.receiver.reader(both.inlet._datagram)
    gc.collect()
    after = sys.getrefcount(both.inlet.receiver)
    assert after <= before


def test_without_the_native_part_python_receives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native_library, "HERE", tmp_path)
    native_receive._library.cache_clear()
    native_library.say.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                assert NativeReceiver.over(0) is None
        assert len(caplog.records) == 1
        assert "receives from publishers" in caplog.text
    finally:
        native_receive._library.cache_clear()


def test_a_library_of_another_version_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = native_library.HERE / f"_native{EXTENSION_SUFFIXES[0]}"
    header = (native_library.HERE / "native" / "receive.h").read_text()
    (tmp_path / "native").mkdir()
    changed = header.replace("uint8_t active;", "uint8_t active; uint64_t more;")
    (tmp_path / "native" / "receive.h").write_text(changed)
    (tmp_path / real.name).symlink_to(real)
    monkeypatch.setattr(native_library, "HERE", tmp_path)
    assert native_library.load("receive.h", "rx_stream") is None


def test_a_reader_of_another_version_or_none_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = native_receive._library()
    assert found is not None
    size = found[0].sizeof("struct rx_event")
    assert native_library.load_reader(size) is not None
    with caplog.at_level(logging.WARNING):
        assert native_library.load_reader(size + 8) is None
        monkeypatch.setattr(native_library, "HERE", tmp_path)
        assert native_library.load_reader(size) is None
        (tmp_path / f"_reader{EXTENSION_SUFFIXES[0]}").write_bytes(b"no library")
        assert native_library.load_reader(size) is None
    assert len(caplog.records) == 2
