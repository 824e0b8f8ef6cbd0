"""What a publisher is told of its path where it cannot find out itself."""

from __future__ import annotations

from itertools import pairwise

import pytest

from relay.protocols.webrtc.remb import AT_ONCE, INTERVAL, START, ReceiverEstimate

FRAME = 3000


class Stream:
    """30 pictures a second of ten packets each over a queue."""

    def __init__(self, timestamp: int = 0xFFFFF000) -> None:
        self.estimate = ReceiverEstimate()
        self.timestamp = timestamp
        self.now = 50.0
        self.queued = 0.0  # bits
        self.told: list[tuple[float, int]] = []

    def run(self, seconds: float, *, rate: float, capacity: float) -> None:
        for _ in range(round(seconds * 30)):
            self.now += 1 / 30
            self.timestamp = (self.timestamp + FRAME) & 0xFFFFFFFF
            self.queued = max(0.0, self.queued - capacity / 30)
            for _ in range(10):
                self.queued += rate / 300
                arrival = self.now + 0.02 + self.queued / capacity
                self.estimate.arrived(self.timestamp, round(rate / 2400), arrival)
                if self.estimate.due(arrival):
                    self.estimate.told(arrival)
                    self.told.append((arrival, self.estimate.bitrate))


def test_a_wide_path_is_told_of_once_a_second() -> None:
    stream = Stream()
    stream.run(10, rate=2e6, capacity=20e6)
    assert 9 <= len(stream.told) <= 11
    assert all(bitrate >= 2e6 for _, bitrate in stream.told)


def test_a_path_that_grows_narrow_is_told_of_soon() -> None:
    stream = Stream()
    stream.run(5, rate=2e6, capacity=20e6)
    begin = stream.now
    stream.run(1, rate=2e6, capacity=0.7e6)
    fallen = [at for at, bitrate in stream.told if at > begin and bitrate < 0.9e6]
    assert fallen
    assert fallen[0] - begin < 1.5
    times = [at for at, _ in stream.told]
    assert min(b - a for a, b in pairwise(times)) >= AT_ONCE


def test_losses_lower_it_and_another_encoder_begins_anew() -> None:
    stream = Stream()
    stream.run(3, rate=2e6, capacity=20e6)
    before = stream.estimate.bitrate
    stream.estimate.lost(0.4, stream.now)
    assert stream.estimate.bitrate < before
    stream.timestamp = (stream.timestamp + 0x40000000) & 0xFFFFFFFF
    stream.run(0.1, rate=2e6, capacity=20e6)
    assert stream.estimate.bitrate >= START * 0.9


def test_nothing_is_told_before_anything_came_and_late_packets_change_nothing() -> None:
    estimate = ReceiverEstimate()
    assert not estimate.due(1.0)
    estimate.arrived(90_000, 1000, 1.0)
    assert estimate.due(1.0)
    estimate.told(1.0)
    estimate.arrived(87_000, 10**6, 1.1)
    assert not estimate.due(1.9)
    assert estimate.due(1.0 + INTERVAL)
    assert estimate.bitrate == pytest.approx(START)
