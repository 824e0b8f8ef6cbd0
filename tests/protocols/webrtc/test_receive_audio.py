"""The audio receive side: order, a short wait, and nothing asked for again."""

from __future__ import annotations

from functools import partial
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocols.webrtc.receive_audio import (
    MAX_HELD,
    REORDER_WAIT,
    AudioPacket,
    AudioReceiver,
)
from relay.protocols.webrtc.reception import UNITS
from relay.protocols.webrtc.rtp import RtpPacket, parse_rtp
from tests.netem import Clock, Link


def packet(number: int, *, ssrc: int = 7, first: int = 0) -> RtpPacket:
    payload = number.to_bytes(2, "big")
    return RtpPacket(111, False, (first + number) & 0xFFFF, number * 960, ssrc, payload)


def numbers(packets: object) -> list[int]:
    assert isinstance(packets, list | tuple)
    return [int.from_bytes(one.payload, "big") for one in packets]


def test_packets_in_order_leave_at_once() -> None:
    audio = AudioReceiver(111)
    assert audio.feed(packet(1), 2.0) == (AudioPacket(b"\0\1", 960, 2.0),)
    assert numbers(audio.feed(packet(2), 2.02)) == [2]
    assert audio.wake_at == inf


@pytest.mark.parametrize("step", [1, 2])
def test_of_more_packets_than_anybody_hears_some_are_passed_on(step: int) -> None:
    audio, passed = AudioReceiver(111), 0
    for index in range(4000):
        passed += len(audio.feed(packet(index * step & 0xFFFF), 1 + index / 2000))
    assert UNITS < passed <= 2 * UNITS + 2 * UNITS
    assert len(audio.feed(packet(index * step + 1 & 0xFFFF), 9.0)) + len(audio.poll(9.1)) >= 1


def test_a_packet_behind_a_hole_waits_a_little_for_it() -> None:
    audio = AudioReceiver(111)
    audio.feed(packet(0), 1.0)
    assert numbers(audio.feed(packet(2), 1.02)) == []
    assert audio.wake_at == pytest.approx(1.02 + REORDER_WAIT)
    got = audio.feed(packet(1), 1.03)
    assert numbers(got) == [1, 2]
    assert [one.arrival for one in got] == [1.03, 1.02]
    assert audio.wake_at == inf


def test_a_hole_that_stays_is_gone_over_after_the_wait() -> None:
    audio = AudioReceiver(111)
    audio.feed(packet(0), 1.0)
    audio.feed(packet(2), 1.02)
    assert audio.poll(1.05) == []
    assert numbers(audio.poll(audio.wake_at)) == [2]
    assert numbers(audio.feed(packet(3), 1.07)) == [3]
    assert audio.feed(packet(1), 1.08) == ()
    assert (audio.late, audio.skipped) == (1, 1)


def test_two_holes_wait_each_by_its_own() -> None:
    audio = AudioReceiver(111)
    audio.feed(packet(0), 1.0)
    audio.feed(packet(2), 1.02)
    audio.feed(packet(4), 1.05)
    assert numbers(audio.poll(1.06)) == [2]
    assert audio.wake_at == pytest.approx(1.09)
    assert numbers(audio.poll(1.09)) == [4]


def test_what_waits_is_bounded() -> None:
    audio = AudioReceiver(111)
    audio.feed(packet(0), 1.0)
    got: list[int] = []
    for number in range(2, 3 + MAX_HELD):
        got += numbers(audio.feed(packet(number), 1.001))
    assert got == list(range(2, 3 + MAX_HELD))


def test_duplicates_are_dropped_and_probes_read_over() -> None:
    audio = AudioReceiver(111)
    audio.feed(packet(0), 1.0)
    assert audio.feed(packet(0), 1.0) == ()
    probe = RtpPacket(111, False, 1, 0, 7, b"")
    assert audio.feed(probe, 1.0) == ()
    audio.feed(RtpPacket(111, False, 3, 0, 7, b""), 1.0)
    assert numbers(audio.feed(packet(2), 1.01)) == [2]
    assert numbers(audio.feed(packet(4), 1.02)) == [4]
    assert (audio.packets, audio.late) == (6, 1)


def test_sequence_numbers_run_over() -> None:
    audio = AudioReceiver(111)
    got = [n for number in range(6) for n in numbers(audio.feed(packet(number, first=65533), 1.0))]
    assert got == list(range(6))


def test_a_new_ssrc_goes_on_at_once_and_late_packets_of_the_old_are_dropped() -> None:
    audio = AudioReceiver(111)
    audio.feed(packet(0), 1.0)
    assert numbers(audio.feed(packet(9, ssrc=8), 1.02)) == [9]
    assert audio.feed(packet(1), 1.03) == ()
    assert numbers(audio.feed(packet(1), 2.0)) == [1]


def test_sequence_numbers_that_jump_go_on_from_there() -> None:
    audio = AudioReceiver(111)
    audio.feed(packet(0), 1.0)
    assert audio.feed(packet(20_000), 1.02) == ()
    assert numbers(audio.feed(packet(20_001), 1.04)) == [20_001]
    assert numbers(audio.feed(packet(22_000), 1.06)) == [22_000]


def test_another_payload_type_is_dropped() -> None:
    audio = AudioReceiver(111)
    assert audio.feed(RtpPacket(0, False, 1, 1, 7, b"pcmu"), 1.0) == ()
    assert audio.unknown == 1
    assert audio.report(1.0) is None
    assert (audio.lost, audio.jitter) == (0, 0.0)
    assert not audio.sender_report(7, 1, 1.0)


def test_reports_count_what_is_lost() -> None:
    audio = AudioReceiver(111)
    for number in (0, 1, 3):
        audio.feed(packet(number), number * 0.02)
    assert audio.sender_report(7, 1 << 40, 0.06)
    block = audio.report(1.06)
    assert block is not None
    assert (block.ssrc, block.lost, block.fraction_lost) == (7, 1, 64)
    assert (block.last_report, block.delay) == (1 << 24, 65536)
    assert audio.lost == 1
    assert audio.jitter < 0.001


def test_over_a_bad_path_order_holds_and_only_what_was_lost_is_missing() -> None:
    clock = Clock()
    audio = AudioReceiver(111)
    got: list[AudioPacket] = []

    def arrive(data: bytes) -> None:
        got.extend(audio.feed(parse_rtp(data), clock.now))
        if audio.wake_at < inf:
            clock.at(audio.wake_at, lambda: got.extend(audio.poll(clock.now)))

    link = Link(clock, arrive, loss=0.03, jitter=0.01, reorder=0.05, reorder_by=(0.02, 0.03))
    for number in range(1000):
        data = packet(number).serialise()
        clock.at(clock.now + number * 0.02, partial(link.send, data))
    clock.run(clock.now + 25)
    order = numbers(got)
    assert order == sorted(set(order))
    assert len(order) == 1000 - link.lost
    delays = [one.arrival - 1000 - n * 0.02 for n, one in zip(order, got, strict=True)]
    assert max(delays) < 0.06


@given(st.randoms(use_true_random=False), st.integers(0, 0xFFFF))
def test_order_holds_whatever_comes(random: Random, first: int) -> None:
    audio = AudioReceiver(111)
    got: list[int] = []
    now = 0.0
    for _ in range(60):
        now += 0.01
        number = random.randrange(60)
        got += numbers(audio.feed(packet(number, first=first), now))
        if audio.wake_at <= now:
            got += numbers(audio.poll(now))
        assert audio.wake_at > now
    assert got == sorted(set(got))
