"""Which missing packets are asked for, when, and how often."""

from __future__ import annotations

from math import inf

import pytest

from relay.protocols.webrtc.repair import (
    CROWDED,
    CROWDED_PACE,
    FIRST_INTERVAL,
    HOLES_A_SECOND,
    HOLES_AT_ONCE,
    LATE,
    MAX_TRIES,
    Repair,
)


def repair(*, nack: bool = True) -> Repair:
    return Repair(nack=nack, doubt=5.0, give_up=10.0)


def test_a_packet_is_asked_for_a_bounded_number_of_times() -> None:
    holes = repair()
    holes.missed(5, 6, 1.0)
    now, asked = 1.0, 0
    while holes.wake_at < 6.0:
        now = holes.wake_at
        asked += len(holes.due(now))
    assert asked == holes.requests == MAX_TRIES
    assert now == pytest.approx(1.0 + (MAX_TRIES - 1) * FIRST_INTERVAL)


def test_what_is_filled_or_forgotten_is_not_asked_for() -> None:
    holes = repair()
    holes.missed(1, 5, 1.0)
    holes.filled(2, 1.0, retransmitted=False)
    holes.forget(2)
    assert holes.due(1.0) == [3, 4]
    assert (len(holes), 3 in holes, 2 in holes) == (2, True, False)
    holes.forget(9)
    assert holes.wake_at == inf


def test_doubt_is_told_once_and_then_the_end() -> None:
    holes = repair(nack=False)
    assert not holes.doubtful(0.0)
    assert not holes.expired(0.0)
    holes.missed(1, 2, 1.0)
    assert holes.due(1.0) == []
    assert (holes.wake_at, holes.doubtful(5.9)) == (6.0, False)
    assert (holes.doubtful(6.0), holes.doubtful(6.0)) == (True, False)
    holes.due(6.0)
    assert (holes.wake_at, holes.expired(10.9), holes.expired(11.0)) == (11.0, False, True)


def test_a_stall_of_our_own_is_no_time_that_a_hole_was_waited_for_but_once() -> None:
    holes = repair()
    holes.missed(1, 2, 1.0)
    assert holes.due(1.0) == [1]
    holes.woken(holes.wake_at + LATE / 2)  # a busy moment
    assert holes.due(1.1) == [1]
    stalled = 20.0
    late = stalled - holes.wake_at
    holes.woken(stalled)
    assert not holes.doubtful(stalled)
    assert not holes.expired(stalled)
    assert holes.due(stalled) == [1]
    end = 1.0 + late + 10.0
    assert not holes.expired(end - 0.01)
    assert holes.expired(end)
    holes.woken(40.0)
    assert holes.expired(40.0)


def test_only_a_retransmission_asked_for_once_measures_the_round_trip() -> None:
    holes = repair()
    holes.missed(1, 4, 1.0)
    holes.due(1.0)
    holes.filled(1, 1.02, retransmitted=False)
    assert holes.round_trip is None
    holes.filled(2, 1.02, retransmitted=True)
    assert holes.round_trip == pytest.approx(0.02)
    holes.due(2.0)
    holes.filled(3, 2.5, retransmitted=True)
    assert holes.round_trip == pytest.approx(0.02)


@pytest.mark.parametrize(("trip", "interval"), [(0.001, 0.02), (0.04, 0.055), (0.9, 0.1)])
def test_the_interval_follows_the_round_trip_within_bounds(trip: float, interval: float) -> None:
    holes = repair()
    holes.missed(1, 2, 1.0)
    holes.due(1.0)
    holes.filled(1, 1.0 + trip, retransmitted=True)
    holes.missed(2, 3, 2.0)
    holes.due(2.0)
    assert holes.wake_at == pytest.approx(2.0 + interval)


def test_only_so_many_are_missed_at_once_and_a_second() -> None:
    holes = repair()
    assert holes.has_room(HOLES_AT_ONCE, 1.0)
    assert not holes.has_room(HOLES_AT_ONCE + 1, 1.0)
    noted = 0
    for step in range(1, 3001):  # a thousand a second
        if holes.has_room(10, 1.0 + step / 1000):
            holes.missed(step * 10, step * 10 + 10, 1.0 + step / 1000)
            noted += 10
            holes.forget(step * 10 + 10)
    assert noted == pytest.approx(HOLES_AT_ONCE + 3 * HOLES_A_SECOND, rel=0.01)


def test_where_there_are_many_they_are_looked_at_now_and_then() -> None:
    holes = repair()
    looks = 0
    for step in range(1000):
        now = 1.0 + step / 1000
        holes.missed(2 * step, 2 * step + 1, now)
        if holes.wake_at <= now:
            holes.due(now)
            looks += 1
    assert looks <= CROWDED + 1000 / (1000 * CROWDED_PACE) + 5


def test_a_storm_is_spread_over_time() -> None:
    holes = repair()
    holes.missed(0, 800, 1.0)
    first = holes.due(1.0)
    assert len(first) == 500
    assert 1.0 < holes.wake_at <= 1.03
    assert set(holes.due(1.02)) & set(first) == set()
