"""Transport-wide numbers on what is sent, by pure Python and by the native part alike."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media.unit import Codec
from relay.protocols.webrtc.fanout import FanOut, OutgoingTrack, log_identifier
from relay.protocols.webrtc.negotiation import MID, TRANSPORT_CC, TrackParameters
from relay.protocols.webrtc.rtp import parse_rtp, transport_sequence
from relay.protocols.webrtc.sendlog import OVERHEAD, REMEMBERED, SendLog
from tests.protocols.webrtc.outlet import (
    FakeOutlet,
    Keys,
    NativeBackend,
    SocketOutlet,
    parameters,
)

NUMBER, SECTION = 3, 4


def answered(codec: Codec, *, mid: str = "") -> TrackParameters:
    """Parameters of a viewer that answers transport-wide numbers."""
    given = parameters(codec, mid=mid)
    return replace(
        given,
        extensions={TRANSPORT_CC: NUMBER, **({MID: SECTION} if mid else {})},
        feedback=given.feedback | {"transport-cc"},
    )


class Python:
    """Pure Python sends."""

    def __init__(self) -> None:
        self.log = SendLog(NUMBER)

    def track(self, codec: Codec, *, mid: str = "") -> tuple[OutgoingTrack, FakeOutlet]:
        outlet = FakeOutlet()
        return OutgoingTrack(answered(codec, mid=mid), outlet, self.log), outlet

    def fan_out(self) -> FanOut:
        return FanOut()

    def close(self) -> None:
        """Nothing is held."""


class Native(Python):
    """The native part sends."""

    def __init__(self) -> None:
        self._backend = NativeBackend()
        log = self._backend.sender.log(NUMBER)
        self.log = log
        self._native = log
        self._outlets: list[SocketOutlet] = []

    def track(self, codec: Codec, *, mid: str = "") -> tuple[OutgoingTrack, FakeOutlet]:
        outlet = SocketOutlet()
        self._outlets.append(outlet)
        made = self._backend.sender.track(answered(codec, mid=mid), outlet, "v", self._native)
        made.route(Keys(len(self._outlets)), outlet.socket.getsockname())
        return made, outlet

    def fan_out(self) -> FanOut:
        return self._backend.fan_out()

    def close(self) -> None:
        for outlet in self._outlets:
            outlet.socket.close()
        self._backend.close()


@pytest.fixture(params=[Python, Native])
def sender(request: pytest.FixtureRequest) -> Iterator[Python]:
    made: Python = request.param()
    yield made
    made.close()


def test_sound_and_picture_of_a_viewer_share_their_numbers(sender: Python) -> None:
    video, pictures = sender.track(Codec.H264)
    audio, sounds = sender.track(Codec.OPUS)
    begin = time.monotonic()
    video.send([b"a" * 100, b"b" * 50], 0, marker=True)
    audio.send([b"c" * 20], 0, marker=False)
    video.send([b"d" * 10], 3000, marker=True)
    assert [transport_sequence(packet, NUMBER) for packet in pictures.packets] == [0, 1, 3]
    assert [transport_sequence(packet, NUMBER) for packet in sounds.packets] == [2]
    assert [packet.payload for packet in pictures.packets] == [b"a" * 100, b"b" * 50, b"d" * 10]
    found = [sender.log.find(number) for number in range(4)]
    assert all(entry is not None and begin <= entry[0] <= time.monotonic() for entry in found)
    totals = [entry[1] for entry in found if entry is not None]
    assert totals == [100 + OVERHEAD, 150 + 2 * OVERHEAD, 170 + 3 * OVERHEAD, 180 + 4 * OVERHEAD]
    assert sender.log.find(4) is None
    assert sender.log.find(0xFFFF) is None


def test_the_first_packets_say_the_section_too_and_the_number_goes_on(sender: Python) -> None:
    video, pictures = sender.track(Codec.H264, mid="video")
    fan_out = sender.fan_out()
    fan_out.set([video])
    for number in range(40):
        fan_out.frame([b"x" * 30, b"y" * 30], number * 3000, marker=True)
    packets = pictures.packets
    assert [transport_sequence(packet, NUMBER) for packet in packets] == list(range(80))
    named = [packet.element(SECTION) for packet in packets]
    assert named == [b"video"] * 64 + [None] * 16
    assert [packet.payload for packet in packets] == [b"x" * 30, b"y" * 30] * 40
    assert len(packets[-1].extension) == 4


def test_what_is_sent_again_has_a_number_of_its_own(sender: Python) -> None:
    video, pictures = sender.track(Codec.H264)
    fan_out = sender.fan_out()
    fan_out.set([video])
    fan_out.frame([b"a" * 100, b"b" * 50], 0, marker=True)
    first = pictures.packets[0]
    again = video.retransmission(first.sequence)
    assert again is not None
    packet = parse_rtp(again)
    assert packet.payload == first.sequence.to_bytes(2, "big") + b"a" * 100
    assert transport_sequence(packet, NUMBER) == 2
    assert sender.log.next == 3


def test_only_the_latest_are_remembered_and_numbers_wrap(sender: Python) -> None:
    video, pictures = sender.track(Codec.H264)
    payloads = [b"z"] * 64
    for number in range(1025):
        video.send(payloads, number * 3000, marker=True)
        if number > 1000:
            assert pictures.packets
    assert sender.log.next == 64
    newest = sender.log.find(63)
    oldest = sender.log.find((64 - REMEMBERED) & 0xFFFF)
    assert newest is not None
    assert oldest is not None
    assert newest[1] - oldest[1] == (REMEMBERED - 1) * (1 + OVERHEAD)
    assert sender.log.find((63 - REMEMBERED) & 0xFFFF) is None


def test_a_viewer_that_does_not_answer_them_is_sent_none() -> None:
    assert log_identifier(parameters()) is None
    assert log_identifier(answered(Codec.H264)) == NUMBER
    assert log_identifier(replace(parameters(), extensions={TRANSPORT_CC: NUMBER})) is None
    assert log_identifier(replace(answered(Codec.OPUS), extensions={TRANSPORT_CC: 15})) is None


@given(st.integers(0, 3 * REMEMBERED), st.integers(0, 0xFFFF))
def test_any_number_is_found_or_not(sent: int, asked: int) -> None:
    log = SendLog(NUMBER, clock=lambda: 5.0)
    for _ in range(sent):
        log.take(0)
    found = log.find(asked)
    kept = max(0, sent - REMEMBERED) <= asked < sent
    assert found == ((5.0, (asked + 1) * OVERHEAD) if kept else None)


def test_logs_of_many_viewers_lie_together_and_none_in_another() -> None:
    backend = NativeBackend()
    try:
        logs = [backend.sender.log(NUMBER) for _ in range(300)]
        for number, log in enumerate(logs):
            assert (log.next, log.find(0)) == (0, None)
            for _ in range(REMEMBERED + number):
                log.take(number)
        kept = logs[::2]
        del logs
        fresh = [backend.sender.log(NUMBER) for _ in range(200)]
        places = {log.pointer for log in (*kept, *fresh)}
        assert len(places) == len(kept) + len(fresh)
        for log in fresh:
            assert (log.next, log.find(0)) == (0, None)
            log.take(1)
        for at, log in enumerate(kept):
            each = 2 * at + OVERHEAD
            found = log.find(log.next - 1)
            assert found is not None
            assert found[1] == (REMEMBERED + 2 * at) * each
    finally:
        backend.close()
