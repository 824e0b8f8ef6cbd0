"""How many jobs fit: by entry, by runner, and by what a runner tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.orchestrator.capacity import SETTLING, Capacity, Entry
from relay.rpc.runner import Slots

A, B = "http://a:1", "http://b:1"
BOTH = frozenset({A, B})


def numbers(entries: list[Entry]) -> list[int]:
    return [entry.number for entry in entries]


def test_an_entry_sells_its_capacity() -> None:
    capacity = Capacity([Entry(0, "m", A, 2)])
    (entry,) = capacity.entries
    assert capacity.free("m", BOTH) == 2
    capacity.take(entry, 0.0)
    assert (capacity.free("m", BOTH), capacity.in_use("m"), capacity.jobs_at(A)) == (1, 1, 1)
    capacity.take(entry, 0.0)
    assert capacity.candidates("m", BOTH) == []
    capacity.give(entry, 1.0)
    assert (capacity.free("m", BOTH), capacity.in_use("m")) == (1, 1)


def test_an_unknown_model_has_no_place() -> None:
    capacity = Capacity([Entry(0, "m", A, 1)])
    assert capacity.candidates("other", BOTH) == []
    assert (capacity.free("other", BOTH), capacity.in_use("other")) == (0, 0)


def test_a_runner_that_does_not_work_sells_nothing() -> None:
    capacity = Capacity([Entry(0, "m", A, 1), Entry(1, "m", B, 1)])
    assert numbers(capacity.candidates("m", {B})) == [1]
    assert capacity.free("m", {B}) == 1


def test_warm_comes_before_cold_and_empty_before_full() -> None:
    capacity = Capacity([Entry(0, "m", A, 3, warm=False), Entry(1, "m", A, 2), Entry(2, "m", B, 2)])
    assert numbers(capacity.candidates("m", BOTH)) == [1, 2, 0]
    capacity.take(capacity.entries[1], 0.0)
    assert numbers(capacity.candidates("m", BOTH)) == [2, 1, 0]


def test_models_at_one_runner_share_its_slots() -> None:
    capacity = Capacity([Entry(0, "m", A, 4), Entry(1, "n", A, 4)])
    capacity.report(A, Slots(2, 2), 0.0)
    assert (capacity.free("m", BOTH), capacity.free("n", BOTH)) == (2, 2)
    capacity.take(capacity.entries[0], 0.0)
    assert (capacity.free("m", BOTH), capacity.free("n", BOTH)) == (1, 1)
    capacity.take(capacity.entries[1], 0.0)
    assert capacity.free("m", BOTH) == 0
    assert capacity.places(capacity.entries[0]) == 0


def test_two_entries_of_a_model_at_one_runner_add_up_to_its_slots() -> None:
    capacity = Capacity([Entry(0, "m", A, 2), Entry(1, "m", A, 2)])
    assert capacity.free("m", BOTH) == 4
    capacity.report(A, Slots(3, 3), 0.0)
    assert capacity.free("m", BOTH) == 3


def test_slots_that_others_took_are_not_ours_to_sell() -> None:
    capacity = Capacity([Entry(0, "m", A, 4)])
    capacity.report(A, Slots(4, 3), 0.0)
    assert capacity.crowded(A)
    assert capacity.free("m", BOTH) == 3
    capacity.take(capacity.entries[0], 0.0)
    capacity.report(A, Slots(4, 2), 0.0)
    assert capacity.free("m", BOTH) == 2
    capacity.report(A, Slots(4, 3), 0.0)
    assert not capacity.crowded(A)
    assert capacity.free("m", BOTH) == 3


def test_a_job_that_has_just_ended_gives_its_place_back_at_once() -> None:
    capacity = Capacity([Entry(0, "m", A, 1)])
    (entry,) = capacity.entries
    capacity.report(A, Slots(1, 1), 0.0)
    capacity.take(entry, 0.0)
    capacity.give(entry, 10.0)
    assert capacity.settling(A, 10.0)
    assert not capacity.settling(A, 10.0 + SETTLING)
    assert capacity.free("m", BOTH) == 1
    capacity.report(A, Slots(1, 0), 10.0)  # the runner is still stopping it
    assert capacity.free("m", BOTH) == 1
    capacity.report(A, Slots(1, 0), 10.0 + SETTLING)  # it never did
    assert capacity.free("m", BOTH) == 0


def test_a_job_that_its_runner_never_had_leaves_nothing_behind() -> None:
    capacity = Capacity([Entry(0, "m", A, 1)])
    capacity.take(capacity.entries[0], 0.0)
    capacity.give(capacity.entries[0], None)
    assert not capacity.settling(A, 0.0)
    capacity.report(A, Slots(1, 0), 0.0)
    assert capacity.free("m", BOTH) == 0


def test_a_runner_that_stops_telling_is_bounded_by_its_entries() -> None:
    capacity = Capacity([Entry(0, "m", A, 4)])
    capacity.report(A, Slots(1, 0), 0.0)
    assert capacity.free("m", BOTH) == 0
    capacity.report(A, None, 0.0)
    assert capacity.free("m", BOTH) == 4


@pytest.mark.parametrize(
    ("slots", "now", "forgotten"),
    [
        (None, 9.0, False),
        (Slots(2, 1), 9.0, False),
        (Slots(2, 2), 1.0, False),
        (Slots(2, 2), 9.0, True),
    ],
)
def test_a_runner_that_runs_nothing_of_ours_has_forgotten(
    slots: Slots | None, now: float, forgotten: bool
) -> None:
    capacity = Capacity([Entry(0, "m", A, 2)])
    assert not capacity.forgotten(A, now)
    capacity.take(capacity.entries[0], 0.0)
    capacity.report(A, slots, now)
    assert capacity.forgotten(A, now) is forgotten


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 4)), max_size=60))
def test_nothing_is_ever_sold_twice(steps: list[tuple[int, bool, int]]) -> None:
    entries = [Entry(0, "m", A, 2), Entry(1, "n", A, 3), Entry(2, "m", B, 1), Entry(3, "n", B, 0)]
    capacity = Capacity(entries)
    held = [0, 0, 0, 0]
    for now, (which, take, free) in enumerate(steps):
        entry = entries[which]
        if take and entry in capacity.candidates(entry.model, BOTH):
            capacity.take(entry, float(now))
            held[which] += 1
        elif held[which]:
            capacity.give(entry, float(now))
            held[which] -= 1
        capacity.report(A, Slots(4, free), float(now))
        assert all(held[entry.number] <= entry.capacity for entry in entries)
        assert capacity.free("m", BOTH) >= 0
        assert capacity.in_use("m") == held[0] + held[2]
        assert capacity.jobs_at(A) == held[0] + held[1] <= 5
