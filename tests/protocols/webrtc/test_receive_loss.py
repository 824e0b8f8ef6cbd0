"""The video receive side over a bad path, in virtual time."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest

from relay.protocols.webrtc.receive import VideoReceiver
from relay.protocols.webrtc.rtp import parse_rtp
from tests.netem import Clock, Link
from tests.protocols.webrtc.source import (
    PAYLOAD_TYPE,
    RTX_PAYLOAD_TYPE,
    Session,
    number_of,
)


def session(**path: Any) -> Session:
    clock = Clock()
    receiver = VideoReceiver(PAYLOAD_TYPE, rtx_payload_type=RTX_PAYLOAD_TYPE)
    holder: list[Session] = []
    link = Link(clock, lambda data: holder[0].arrive(data), **path)
    made = Session(clock, forward=link, back_delay=0.01, receiver=receiver)
    holder.append(made)
    return made


def run(made: Session, frames: int) -> None:
    made.start(frames)
    made.clock.run(made.clock.now + frames / 30 + 2)


def gaps_of(times: Iterable[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def check(made: Session) -> None:
    """All that came is whole, in order, and as it was sent."""
    numbers = [number_of(picture.annexb) for picture in made.got]
    assert numbers == sorted(set(numbers))
    for number, picture in zip(numbers, made.got, strict=True):
        assert picture.annexb == made.sender.sent_units[number]


@pytest.mark.parametrize("loss", [0.01, 0.03, 0.05, 0.10])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_picture_comes_through_loss(loss: float, seed: int) -> None:
    made = session(seed=seed, delay=0.01)
    start = made.clock.now
    # The first and the last packets are spared: before and behind them is nothing that
    # would show that they are missing.
    made.clock.at(start + 0.02, lambda: setattr(made.forward, "loss", loss))
    made.clock.at(start + 19.9, lambda: setattr(made.forward, "loss", 0.0))
    run(made, 600)
    check(made)
    assert made.forward.lost > 0
    assert len(made.got) == 600
    assert made.keyframe_requests == []
    delays = [picture.arrival - (1000.0 + number_of(picture.annexb) / 30) for picture in made.got]
    assert max(delays) < 0.25


@pytest.mark.parametrize("seed", [4, 5])
def test_reordering_jitter_and_duplicates_lose_nothing(seed: int) -> None:
    made = session(seed=seed, jitter=0.02, reorder=0.05, duplicate=0.05)
    run(made, 600)
    check(made)
    assert len(made.got) == 600
    assert made.receiver.late > 0


def test_a_packet_lost_for_good_stalls_the_video_for_less_than_320_ms() -> None:
    made = session(delay=0.01)
    victim = made.sender.sequence + 300

    def drop(data: bytes) -> bool:
        packet = parse_rtp(data)
        if packet.payload_type == RTX_PAYLOAD_TYPE:
            return int.from_bytes(packet.payload[:2], "big") == victim
        return packet.sequence == victim

    made.forward.drop = drop
    run(made, 150)
    check(made)
    assert len(made.keyframe_requests) == 1
    gaps = gaps_of(picture.arrival for picture in made.got)
    assert 0.25 < max(gaps) < 0.32
    stalled = gaps.index(max(gaps))
    assert made.got[stalled + 1].keyframe
    assert made.receiver.holes_given_up == 1


@pytest.mark.parametrize(("seconds", "requests"), [(1, 0), (10, 1)])
def test_after_an_outage_the_video_goes_on_at_once(seconds: int, requests: int) -> None:
    made = session(delay=0.01)
    start = made.clock.now
    made.forward.drop = lambda _: start + 2 < made.clock.now < start + 2 + seconds
    run(made, 450)
    check(made)
    assert len(made.keyframe_requests) == requests
    assert number_of(made.got[-1].annexb) == 449
    assert max(gaps_of(picture.arrival for picture in made.got)) < seconds + 0.15


def test_a_path_that_loses_half_of_all_never_lets_a_broken_picture_out() -> None:
    made = session(loss=0.5, seed=7, reorder=0.1, duplicate=0.1)
    run(made, 600)
    check(made)
    assert made.keyframe_requests
    assert min(gaps_of(made.keyframe_requests)) > 0.299


def test_the_same_seed_gives_the_same_run() -> None:
    runs = []
    for _ in range(2):
        made = session(loss=0.05, jitter=0.01, reorder=0.02, seed=11)
        run(made, 120)
        runs.append([(number_of(p.annexb), p.arrival) for p in made.got])
    assert runs[0] == runs[1]
