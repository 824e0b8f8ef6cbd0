from __future__ import annotations

import pytest

from relay.rpc.events import StatusEvent
from relay.worker.status import JobStatus, Rate

WALL = 1_700_000_000.0


def fresh() -> JobStatus:
    return JobStatus("effects", "3", ("keyframe",), now=100.0, wall=WALL)


def told(status: JobStatus, now: float) -> StatusEvent:
    event = status.event(now).status()
    assert event is not None
    return event


def run(status: JobStatus, start: float, seconds: int, fps_in: float, fps_out: float) -> float:
    """Seconds of steady frames, looked at once a second; the time after."""
    for step in range(seconds + 1):
        status.saw(round(step * fps_in), round(step * fps_out), start + step)
    return start + seconds


def test_a_rate_is_taken_over_a_window() -> None:
    rate = Rate()
    assert rate.value == 0.0
    for step in range(20):
        rate.see(step * 30 if step < 10 else 270 + (step - 9) * 10, float(step))
    assert rate.value == 10.0


def test_the_first_status_says_loading_and_what_is_understood() -> None:
    event = told(fresh(), 100.5)
    assert event.state == "LOADING"
    assert event.start_time == WALL * 1000
    assert event.timestamp == WALL * 1000 + 500
    assert event.extensions == ("keyframe",)
    assert event.pipeline_version == "3"
    assert event.input_status.last_input_time is None


@pytest.mark.parametrize(
    ("fps_in", "fps_out", "state"),
    [
        (30, 30, "ONLINE"),
        (30, 12, "ONLINE"),
        (30, 8, "DEGRADED_INFERENCE"),
        (30, 0, "DEGRADED_INFERENCE"),
        (10, 10, "DEGRADED_INPUT"),
        (0, 0, "DEGRADED_INPUT"),
    ],
)
def test_the_state_follows_the_frame_rates(fps_in: int, fps_out: int, state: str) -> None:
    status = fresh()
    now = run(status, 100.0, 10, fps_in, fps_out)
    event = told(status, now)
    assert event.state == state
    assert event.input_status.fps == fps_in
    assert event.inference_status.fps == fps_out


def test_input_that_stops_is_told_after_two_seconds() -> None:
    status = fresh()
    now = run(status, 100.0, 10, 30, 30)
    assert status.state(now + 1.9) == "ONLINE"
    assert status.state(now + 2.1) == "DEGRADED_INPUT"


def test_a_change_of_state_is_noticed_once() -> None:
    status = fresh()
    assert not status.saw(0, 0, 100.5)
    assert not status.saw(1, 0, 101.0)
    assert status.saw(2, 1, 101.5)
    assert not status.saw(3, 2, 102.0)
    assert told(status, 102.0).last_state_update_time == WALL * 1000 + 1500


def test_parameters_show_with_a_hash() -> None:
    status = fresh()
    status.params({"b": 1, "a": 2}, 101.0)
    first = told(status, 101.0).inference_status
    assert first.last_params == {"a": 2, "b": 1}
    assert first.last_params_update_time == WALL * 1000 + 1000
    status.params({"a": 2, "b": 1}, 102.0)
    assert told(status, 102.0).inference_status.last_params_hash == first.last_params_hash


def test_errors_are_told_at_most_every_two_seconds_and_counted_between() -> None:
    status = fresh()
    assert status.error("first", 100.0) is not None
    assert [status.error("again", 100.1 + step / 10) for step in range(5)] == [None] * 5
    event = status.error("later", 103.0)
    assert event is not None
    assert event.body["message"] == "later (and 5 errors before)"
    assert told(status, 103.0).inference_status.last_error == "later"


def test_an_error_degrades_the_state_for_a_while() -> None:
    status = fresh()
    now = run(status, 100.0, 10, 30, 30)
    status.error("no", now)
    assert status.state(now) == "DEGRADED_INFERENCE"
    later = run(status, now, 20, 30, 30)
    assert status.state(later) == "ONLINE"


def test_a_trace_has_its_own_topic() -> None:
    event = fresh().trace("runner_receive_stream_request", 100.0)
    assert event.topic == "stream_trace"
    assert event.type == "runner_receive_stream_request"
