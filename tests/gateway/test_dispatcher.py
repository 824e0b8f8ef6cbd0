"""When a job moves: every row of the rule, from values alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.gateway.dispatcher import Observation, Verdict, due, judge, retry_delay

GOOD = Observation(
    opened=0.0,
    input_since=0.0,
    last_input=99.9,
    last_output=99.9,
    last_event=95.0,
    in_flight=1,
    starved=1.0,
    loading=False,
)


def verdict(seen: Observation, now: float = 100.0) -> tuple[Verdict, str]:
    judgement = judge(seen, now, output_timeout=1.0, start_timeout=10.0)
    return judgement.verdict, judgement.code


def test_a_session_that_flows_goes_on() -> None:
    assert verdict(GOOD) == (Verdict.GO_ON, "")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"last_output": 98.9}, (Verdict.MOVE, "no_output")),
        ({"last_output": 99.1}, (Verdict.GO_ON, "")),
        # we stood still ourselves for half of the time
        ({"last_output": 98.0, "stood_still": 1.1}, (Verdict.GO_ON, "")),
        ({"last_output": 97.8, "stood_still": 1.1}, (Verdict.MOVE, "no_output")),
        # the input stood still, so no output is expected
        ({"last_output": 90.0, "last_input": 99.0}, (Verdict.GO_ON, "")),
        # the input came back half a second ago: the worker gets its second
        ({"last_output": 90.0, "input_since": 99.5}, (Verdict.GO_ON, "")),
        ({"last_output": None, "opened": 91.0, "last_event": 99.0}, (Verdict.GO_ON, "")),
        (
            {"last_output": None, "opened": 89.0, "last_event": 99.0},
            (Verdict.MOVE, "no_first_picture"),
        ),
        (
            {"last_output": None, "opened": 89.0, "last_event": 99.0, "loading": True},
            (Verdict.GO_ON, ""),
        ),
        ({"last_output": None, "input_since": None, "last_input": None}, (Verdict.GO_ON, "")),
        # pictures that stay seconds behind; a while is given to come nearer, or to begin
        ({"late_since": 97.9}, (Verdict.MOVE, "output_late")),
        ({"late_since": 98.1}, (Verdict.GO_ON, "")),
        ({"late_since": 90.0, "input_since": 98.5}, (Verdict.GO_ON, "")),
        ({"late_since": 90.0, "last_input": 99.0}, (Verdict.GO_ON, "")),
        ({"in_flight": 4}, (Verdict.MOVE, "slow_input")),
        ({"in_flight": 3}, (Verdict.GO_ON, "")),
        ({"last_event": 69.0}, (Verdict.MOVE, "no_events")),
        ({"last_event": None, "opened": 69.0}, (Verdict.MOVE, "no_events")),
        ({"starved": 59.0}, (Verdict.GO_ON, "")),
        ({"starved": 60.0}, (Verdict.END, "no_keyframe")),
    ],
)
def test_the_rule(change: dict[str, object], expected: tuple[Verdict, str]) -> None:
    assert verdict(replace(GOOD, **change)) == expected  # type: ignore[arg-type]


def test_retries_are_quick_for_five_seconds_and_then_slow_down() -> None:
    delays = [retry_delay(count) for count in range(1, 40)]
    assert delays == sorted(delays)
    assert sum(delays[:20]) == 5.0
    assert delays[-1] == 5.0
    assert retry_delay(10**6) == 5.0


_when = st.none() | st.floats(0.0, 100.0)


@given(
    st.builds(
        Observation,
        opened=st.floats(0.0, 100.0),
        input_since=_when,
        last_input=_when,
        last_output=_when,
        last_event=_when,
        in_flight=st.just(1),
        starved=st.just(0.0),
        loading=st.booleans(),
        loaded=_when,
        late_since=_when,
        stood_still=st.floats(0.0, 2.0),
    ),
    st.floats(0.0, 1.0),
)
def test_nothing_is_missed_between_two_looks(seen: Observation, share: float) -> None:
    if verdict(seen)[0] is not Verdict.GO_ON:
        return
    until = due(seen, output_timeout=1.0, start_timeout=10.0)
    between = 100.0 + share * max(until - 100.0, 0.0)
    assert between >= until or verdict(seen, between)[0] is Verdict.GO_ON


def test_a_look_is_due_when_a_stall_would_be_called() -> None:
    seen = replace(GOOD, last_output=99.5)
    until = due(seen, output_timeout=1.0, start_timeout=10.0)
    assert until == 100.5
    assert verdict(replace(seen, last_input=until), until)[0] is Verdict.GO_ON
    assert verdict(replace(seen, last_input=until), until + 0.001)[1] == "no_output"
