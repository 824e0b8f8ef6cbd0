from __future__ import annotations

import json
import logging
import sys

from relay.cli.logs import JsonFormatter, TextFormatter, configure
from relay.config import Log


def _record(**extra: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": "relay.x", "levelname": "INFO", "msg": "moved %s", "args": ("on",), **extra}
    )


def test_a_json_line_holds_what_was_handed_in() -> None:
    line = json.loads(JsonFormatter("gateway").format(_record(stream_id="s1")))
    assert line["message"] == "moved on"
    assert line["level"] == "info"
    assert line["role"] == "gateway"
    assert line["stream_id"] == "s1"
    assert line["time"].endswith("+00:00")


def test_a_failure_is_told_in_one_line() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        text = JsonFormatter("worker").format(_record(exc_info=sys.exc_info()))
    assert "\n" not in text
    assert "ValueError: why" in json.loads(text)["error"]


def test_text_is_for_people() -> None:
    assert TextFormatter().format(_record()).endswith("INFO    relay.x: moved on")


def test_who_speaks_is_told_where_several_do() -> None:
    line = TextFormatter("up").format(_record())
    assert line.startswith("up           | ")
    assert line.endswith("INFO    relay.x: moved on")


def test_the_level_is_that_of_the_settings() -> None:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        configure(Log(level="error", format="json"), "worker")
        assert root.level == logging.ERROR
        assert isinstance(root.handlers[0].formatter, JsonFormatter)
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
