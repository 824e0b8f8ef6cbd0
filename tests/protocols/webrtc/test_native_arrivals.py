"""Feedback that native code writes says what Python's would."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from relay.protocols.webrtc import native_receive
from relay.protocols.webrtc.congestion import FeedbackBuilder, TransportFeedback
from relay.protocols.webrtc.native_receive import NativeReceiver

SENDER, MEDIA = 1000, 0x01020304


class Log:
    """Arrivals of a stream, noted both ways."""

    def __init__(self, first: int) -> None:
        found = native_receive._library()
        assert found is not None, "the native part was not built"
        self.receiver = NativeReceiver(found, -1, 1, 1)
        lib = self.receiver.lib
        self.stream: Any = lib.rx_open(self.receiver.rx, self.receiver.ffi.NULL, 96, 3, 1)
        self.stream.ssrc = MEDIA
        self.builder = FeedbackBuilder(SENDER)
        self.builder.arrived(first - 1 & 0xFFFF, MEDIA, 1.0)
        assert self.builder.build()
        standing = self.builder.standing
        assert standing is not None
        self.stream.untold, self.stream.feedbacks = standing
        self.stream.tells = 1
        self.number = first

    def note(self, at: float, number: int | None = None) -> None:
        if number is None:
            number, self.number = self.number, self.number + 1 & 0xFFFF
        arrival = self.stream.log[self.stream.arrivals]
        arrival.at, arrival.sequence = at, number
        self.stream.arrivals += 1
        self.builder.arrived(number, MEDIA, at)

    def written(self) -> bytes:
        receiver = self.receiver
        size = receiver.lib.rx_feedback(self.stream, SENDER, receiver.feedback)
        return bytes(receiver.ffi.buffer(receiver.feedback, size))

    def close(self) -> None:
        self.receiver.lib.rx_close(self.receiver.rx, self.stream)


@pytest.fixture
def log() -> Iterator[Log]:
    made = Log(65_400)
    yield made
    made.close()


@pytest.mark.parametrize("longest", [0.0, 0.001, 0.05, 0.07, 0.2, 5.0])
def test_what_came_in_order_is_told_alike(log: Log, longest: float) -> None:
    dice, now = random.Random(longest), 70_000.0
    for round_ in range(300):
        for _ in range(dice.choice((1, 2, 6, 7, 8, 14, 15, 60, 256))):
            now += dice.uniform(0, longest if dice.random() < 0.1 else 0.001)
            log.note(now)
        packet = log.written()
        (expected,) = log.builder.build()
        assert len(packet) % 4 == 0
        assert packet[:2] == b"\x8f\xcd"
        assert int.from_bytes(packet[2:4], "big") == len(packet) // 4 - 1
        assert TransportFeedback.parse(packet[4:]) == expected, round_
        assert log.stream.arrivals == 0
        assert (log.stream.untold, log.stream.feedbacks) == log.builder.standing


@pytest.mark.parametrize(
    "fault", ["a hole", "again", "out of order", "back in time", "long after", "not given"]
)
def test_all_else_is_left_to_python(log: Log, fault: str) -> None:
    log.note(100.0)
    if fault == "a hole":
        log.number += 1
        log.note(100.01)
    elif fault == "again":
        log.note(100.01, log.number - 1)
    elif fault == "out of order":
        log.note(100.01, log.number + 1)
        log.note(100.02, log.number)
    elif fault == "back in time":
        log.note(99.9)
    elif fault == "long after":
        log.note(108.3)
    else:
        log.stream.tells = 0
    noted = log.stream.arrivals
    assert log.written() == b""
    assert log.stream.arrivals == noted, "nothing is lost"


def test_nothing_is_told_of_nothing(log: Log) -> None:
    assert log.written() == b""


def test_a_builder_goes_on_where_native_code_has_told_all() -> None:
    builder = FeedbackBuilder(SENDER)
    builder.arrived(65_530, MEDIA, 1.0)
    builder.build()
    builder.told(4, 9)
    builder.arrived(6, MEDIA, 2.0)
    (feedback,) = builder.build()
    assert (feedback.base, feedback.count) == (4, 9)
    assert [arrival is not None for arrival in feedback.arrivals] == [False, False, True]
    assert builder.standing == (7, 10)
