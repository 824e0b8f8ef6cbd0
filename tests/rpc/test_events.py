"""Events in the network's shape: built, read, and read leniently."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ParseError, TooLarge
from relay.rpc.events import (
    EXTENSION_KEYFRAME,
    Event,
    InferenceStatus,
    InputStatus,
    StatusEvent,
)
from tests.rpc.captured import captured

STATUS = StatusEvent(
    pipeline="effects",
    state="ONLINE",
    start_time=1_000,
    timestamp=2_000,
    last_state_update_time=1_500,
    input_status=InputStatus(1_990, 30.0),
    inference_status=InferenceStatus(
        last_output_time=1_995,
        fps=29.5,
        last_params_update_time=1_600,
        last_params={"effect": "edges"},
        last_params_hash="abc",
        last_error_time=1_700,
        last_error="it broke",
        last_restart_time=1_800,
        last_restart_logs=("one", "two"),
        restart_count=1,
    ),
    extensions=(EXTENSION_KEYFRAME,),
    pipeline_version="7",
)

json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(
    [
        "type",
        "state",
        "start_time",
        "timestamp",
        "input_status",
        "inference_status",
        "fps",
        "last_params",
        "last_restart_logs",
        "restart_count",
        "extensions",
        "last_output_time",
    ]
)


def test_a_status_survives_the_wire() -> None:
    event = Event.parse(STATUS.to_event().serialise())
    assert event.topic == "ai_stream_events"
    assert event.status() == STATUS


def test_a_status_has_the_networks_keys() -> None:
    body = orjson.loads(STATUS.to_event().serialise())["event"]
    assert body["type"] == "status"
    assert body["last_status_timestamp"] == body["timestamp"] == 2_000
    assert set(body["inference_status"]) == {
        "last_output_time",
        "fps",
        "last_params_update_time",
        "last_params",
        "last_params_hash",
        "last_error_time",
        "last_error",
        "last_restart_time",
        "last_restart_logs",
        "restart_count",
    }


def test_a_status_without_extensions_of_ours_looks_like_a_stock_one() -> None:
    body = StatusEvent("p", "ONLINE", 1, 2).to_event().body
    assert "extensions" not in body
    assert "pipeline_version" not in body


def test_the_event_that_a_stock_gateway_took_is_understood() -> None:
    event = Event.parse(captured("live-job/event-status.json"))
    assert event.topic == "ai_stream_events"
    status = event.status()
    assert status is not None
    assert (status.pipeline, status.state, status.input_status.fps) == ("ident", "ONLINE", 30.0)
    assert status.inference_status.last_params is None
    assert status.extensions == ()


def test_a_bare_object_is_an_event() -> None:
    event = Event.parse(b'{"type": "error", "message": "x"}')
    assert (event.type, event.topic) == ("error", "ai_stream_events")
    assert event.status() is None


def test_an_error_event_says_what_and_when() -> None:
    event = Event.parse(Event.error("effects", "it broke", time=5).serialise())
    assert event.type == "error"
    assert event.body == {
        "type": "error",
        "pipeline": "effects",
        "message": "it broke",
        "time": 5,
    }


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"event": 7}', b'{"event": null}'])
def test_what_is_no_event_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        Event.parse(data)


def test_an_event_over_the_bound_is_refused() -> None:
    with pytest.raises(TooLarge):
        Event.parse(b'{"x": "' + b"x" * (1 << 20) + b'"}')


@given(st.dictionaries(keys, json | st.dictionaries(keys, json, max_size=4), max_size=6))
def test_a_status_from_a_stranger_reads_as_something(body: dict[str, object]) -> None:
    status = StatusEvent.from_body(body)
    read_again = Event.parse(status.to_event().serialise()).status()
    assert read_again == status


@given(st.binary(max_size=100))
def test_bytes_from_strangers_are_events_or_refused(data: bytes) -> None:
    try:
        event = Event.parse(data)
    except ParseError:
        return
    event.status()
