"""Whatever is set wrong is told in one line, in our words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from relay.config import Settings, known_keys
from relay.errors import ConfigError

ALL = "(relay up --print-config shows every key)"


def keys(section: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key in known_keys(section):
        parts = tuple(key.split("."))
        yield parts
        yield from keys(parts)


def told(key: tuple[str, ...], value: Any) -> list[str]:
    """What is said of it, a line each; none where it will do."""
    for part in reversed(key):
        value = {part: value}
    try:
        Settings.load(**value)
    except ConfigError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("gateway.webrtc.port", 99999, "99999 is above 65535"),
        ("gateway.webrtc.port", "abc", "'abc' is no whole number"),
        ("gateway.webrtc.tcp_port", 0.5, "0.5 is no whole number"),
        ("gateway.webrtc.consent_timeout", 0, "0 is not above 0"),
        ("gateway.viewer_wait", [1], "[1] is no number"),
        ("gateway.open", "maybe", "'maybe' is neither true nor false"),
        ("gateway.publish_key", 31337, "what is given is no text"),
        ("gateway.data_dir", 5, "5 is no path"),
        ("gateway.webrtc", 3, "3 is no section of keys with values"),
        ("gateway.webrtc.ice_servers", ["stun:x"], "'stun:x' is no section of keys with values"),
        ("log.level", "loud", "'loud' is not 'debug', 'info', 'warning' or 'error'"),
        ("orchestrator.models", [{"model_id": "a"}], "it is missing"),
    ],
)
def test_a_wrong_value_is_told_with_what_is_wrong(key: str, value: Any, words: str) -> None:
    (line,) = told(tuple(key.split(".")), value)
    where, _, what = line.strip().partition(": ")
    assert where.startswith(key)
    assert what == words


HEADERS = ("orchestrator_webhook_headers", "remote_signer_headers", "heartbeat_headers")
SECRET = "s3cr3t"


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (f"Authorization: Bearer {SECRET}", "what is given is no section of keys with values"),
        (SECRET, "what is given is no section of keys with values"),
        ([{"Authorization": SECRET}], "what is given is no section of keys with values"),
        ({"X-Key": [SECRET]}, "what is given is no text"),
        ({"X-Key": {"is": SECRET}}, "what is given is no text"),
        ({f"Authorization:Bearer {SECRET}": None}, "what is given is no text"),
        ({SECRET: None}, "what is given is no text"),
        ({f"X-Key {SECRET}": 1}, "what is given is no text"),
    ],
)
def test_of_a_wrong_header_no_value_is_told(name: str, value: Any, words: str) -> None:
    (line,) = told(("gateway", name), value)
    assert SECRET not in line
    assert line.startswith(f"gateway.{name}")
    assert line.endswith(words)


def test_a_wrong_header_is_named() -> None:
    (line,) = told(("gateway", HEADERS[0]), {"X-A": "b", "X-Key": 31337})
    assert line == f"gateway.{HEADERS[0]}.X-Key: what is given is no text"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("orchestrator.models", {"model_id": "a", "token": SECRET}),
        ("orchestrator.models", [f"token: {SECRET}"]),
        ("gateway.port", {"publish_key": SECRET}),
        ("gateway", f"publish_key={SECRET}"),
        ("gateway", {f"publish_key:{SECRET}": None}),
        ("gateway.kafka", ["password", {"password": SECRET}]),
        ("gateway.webrtc.ice_servers", {"url": "turn:a", "credential": SECRET}),
        ("gateway.webrtc.ice_servers", [{"url": f"turn:me:{SECRET}@turn.example"}]),
        ("gateway.remote_signer", f"https://me:{SECRET}/x@signer.example"),
        ("gateway.orchestrators", [f"https://me:{SECRET}/x@node.example"]),
        ("gateway.orchestrator_webhook", f"htp://a/?token={SECRET}"),
    ],
)
def test_nor_is_a_secret_told_that_stands_at_a_wrong_place(key: str, value: Any) -> None:
    (line,) = told(tuple(key.split(".")), value)
    assert SECRET not in line
    assert key in line


def test_several_wrong_values_are_a_line_each() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load(
            gateway={"prot": 1, "port": "x", "kafka": {"servers": 1}}, worker={"slots": 0}
        )
    assert str(caught.value).splitlines() == [
        "wrong settings:",
        f"  unknown keys: gateway.prot (did you mean gateway.port?) {ALL}",
        "  gateway.port: 'x' is no whole number",
        "  gateway.kafka.servers: '1' is no list; write [1]",
        "  worker.slots: 0 is below 1",
        "  gateway.kafka.topic: it is missing",
    ]


def test_a_misspelt_key_is_told_once() -> None:
    """Not also that the right one is missing."""
    (line,) = told(("gateway", "webrtc", "ice_servers"), [{"urls": "stun:a"}])
    assert "gateway.webrtc.ice_servers.0.urls (did you mean gateway.webrtc.ice_servers.0.url?)" in (
        line
    )


@pytest.mark.parametrize(
    "value", [-1, 1e99, "\n", "x", {"a": 1}, {1: 2}, [{}], None, True, float("nan")]
)
def test_nothing_of_the_library_is_told_of_any_setting(value: Any) -> None:
    found = [*keys()]
    assert len(found) > 60
    for key in found:
        for line in told(key, value):
            assert "Input should" not in line, line
            assert "pydantic" not in line, line
            assert "Keys should" not in line, line
            assert len(line) < 300, line
