"""Parameters on trial: what is taken back, and what is not."""

from __future__ import annotations

import pytest

from relay.gateway.trial import SETTLED, TAKEN_BACK, Trial

GOOD, BAD = {"a": 1}, {"a": 1, "b": "poison"}


def shown(trial: Trial, start: float, seconds: float) -> float:
    """Pictures come for so long; when the last of them did."""
    for tick in range(int(seconds * 10) + 1):
        trial.picture(start + tick / 10)
    return start + seconds


def test_a_change_that_kills_two_sessions_is_taken_back() -> None:
    trial = Trial(GOOD)
    shown(trial, 0, SETTLED + 1)
    trial.change(BAD, b'{"b": "poison"}')
    shown(trial, 20, 2)  # those that were under way
    assert not trial.died()
    assert trial.now.params == BAD
    assert trial.died()
    assert (trial.now.params, trial.now.update) == (GOOD, None)
    assert trial.cautions == (TAKEN_BACK,)
    assert not trial.died(), "what worked is never taken back"
    trial.change({"a": 2}, b'{"a": 2}')
    assert not trial.cautions


def test_what_is_taken_back_is_all_since_the_last_that_settled() -> None:
    """A slider is moved: a change every few moments, each with the one before in it."""
    trial = Trial({})
    now = shown(trial, 0, SETTLED + 1)
    trial.change(GOOD, b'{"a": 1}')
    now = shown(trial, now, SETTLED + 1)
    for step in range(20):
        trial.change(BAD | {"step": step}, b"{}")
        now = shown(trial, now, 0.3)
    trial.died()
    assert trial.died()
    assert (trial.now.params, trial.now.update) == (GOOD, b'{"a": 1}')


def test_a_change_soon_after_the_first_picture() -> None:
    trial = Trial(GOOD)
    shown(trial, 0, 0.2)
    trial.change(BAD, b"{}")
    trial.died()
    assert trial.died()
    assert trial.now.params == GOOD


@pytest.mark.parametrize("pictures", [0.0, SETTLED / 2])
def test_one_that_is_served_for_long_is_no_death_of_the_change(pictures: float) -> None:
    trial = Trial(GOOD)
    now = shown(trial, 0, 1)
    trial.change(BAD, b"{}")
    now = shown(trial, now, pictures)
    trial.died()
    shown(trial, now, SETTLED + 1)
    for _ in range(5):
        assert not trial.died()
    assert trial.now.params == BAD


def test_another_change_starts_to_count_anew() -> None:
    trial = Trial(GOOD)
    shown(trial, 0, 1)
    trial.change(BAD, b"{}")
    assert not trial.died()
    trial.change(GOOD | {"c": 1}, b"{}")
    assert not trial.died()
    assert trial.now.params == GOOD | {"c": 1}


def test_where_nothing_ever_worked_there_is_nothing_to_go_back_to() -> None:
    trial = Trial(BAD)
    for _ in range(5):
        assert not trial.died()
    trial.change(GOOD, b"{}")
    for _ in range(5):
        assert not trial.died()
    assert trial.now.params == GOOD
