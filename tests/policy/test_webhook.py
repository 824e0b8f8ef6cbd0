"""What the authentication webhook is asked, and what may be made of its answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.errors import PeerError
from relay.policy.webhook import MAX_PARAMETERS, Permit, Question, headers

QUESTION = Question("cam", "pipeline=a&params=%7B%7D", "gw.example", "whep", "status", "update")


def test_the_question_has_the_networks_fields() -> None:
    assert json.loads(QUESTION.body()) == {
        "stream": "cam",
        "stream_key": "cam",
        "type": "livepeer-whip",
        "query_params": "pipeline=a&params=%7B%7D",
        "gateway_host": "gw.example",
        "whep_url": "whep",
        "status_url": "status",
        "update_url": "update",
    }


def test_a_query_that_is_empty_is_left_out() -> None:
    question = Question("cam", "", "gw.example", "whep", "status", "update")
    assert "query_params" not in json.loads(question.body())


def test_the_key_goes_in_two_headers_and_may_be_empty() -> None:
    for key, value in (("secret", "secret"), (None, "")):
        sent = headers(key)
        assert (sent["x-api-key"], sent["Authorization"]) == (value, value)
        assert sent["Content-Type"] == "application/json"


def test_an_answer_is_read_whole() -> None:
    permit = Permit.read(
        {
            "pipeline": "p",
            "pipeline_id": "pip_1",
            "stream_id": "s",
            "rtmp_output_url": "rtmp://out",
            "pipeline_parameters": {"a": 1},
            "more": ["is", "left", "alone"],
        }
    )
    assert permit == Permit("p", "pip_1", "s", "rtmp://out", {"a": 1})


@pytest.mark.parametrize(
    "answer", [{}, {"pipeline": "", "stream_id": None, "pipeline_parameters": {}}]
)
def test_what_is_empty_overrides_nothing(answer: dict[str, Any]) -> None:
    assert Permit.read(answer) == Permit()


@pytest.mark.parametrize(
    ("pipeline", "given", "made"),
    [
        ("comfyui", {"1": {}}, {"prompt": {"1": {}}}),
        ("comfyui", {"prompt": {"1": {}}, "x": 1}, {"prompt": {"1": {}}, "x": 1}),
        ("other", {"1": {}}, {"1": {}}),
    ],
)
def test_a_bare_comfyui_workflow_is_wrapped(
    pipeline: str, given: dict[str, Any], made: dict[str, Any]
) -> None:
    answer = {"pipeline": pipeline, "pipeline_parameters": given}
    assert Permit.read(answer).parameters == made


@pytest.mark.parametrize(
    "answer",
    [
        {"pipeline": 7},
        {"stream_id": ["s"]},
        {"stream_id": "s" * 257},
        {"pipeline_id": "a\nb"},
        {"pipeline_parameters": [1]},
        {"pipeline_parameters": "text"},
        {"pipeline_parameters": {"a": "x" * MAX_PARAMETERS}},
    ],
)
def test_a_field_of_another_kind_lets_nobody_in(answer: dict[str, Any]) -> None:
    with pytest.raises(PeerError) as caught:
        Permit.read(answer)
    assert caught.value.code == "auth_webhook_answer"
