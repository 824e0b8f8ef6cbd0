"""What the fan-out's bench makes of its rows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.fanout import Form, Row, judge

FORM = Form(seconds=3.0, rounds=2, feedback=True, bare=False, sound=True)


def row(what: str, viewers: int, cost: float, *, came: list[int] | None = None) -> Row:
    made = Row(what, viewers, costs=[cost] * 2, shares=[0.1] * 2, delivered=[1.0] * 2)
    made.reading = [1e-6] * 2
    made.due, made.came = 1000, came or [1000] * viewers
    made.lags, made.paces = [0.001] * 60, [1.0] * 2
    return made


def judged(capsys: pytest.CaptureFixture[str], *rows: Row) -> dict[str, Any]:
    judge(list(rows), FORM)
    line: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return line


def of_python(viewers: int) -> list[Row]:
    return [row("python", viewers, 10e-6), row("aiortc", viewers, 20e-6)]


def test_a_whole_run_that_holds_passes(capsys: pytest.CaptureFixture[str]) -> None:
    line = judged(capsys, row("native", 200, 1.2e-6), row("limit", 200, 1e-6), *of_python(50))
    assert (line["pass"], line["missed"], line["not_run"]) == (True, [], [])


def test_what_was_not_measured_is_told_as_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    line = judged(capsys, row("native", 100, 1.2e-6), row("limit", 100, 1e-6))
    assert line["missed"] == []
    assert [name.split(":")[0] for name in line["not_run"]] == [
        "200 viewers and more",
        "aiortc over pure Python",
        "200 viewers",
        "200 viewers",
    ]


@pytest.mark.parametrize("least", [0, 998])
def test_one_viewer_that_lacks_what_was_due_fails_it(
    capsys: pytest.CaptureFixture[str], least: int
) -> None:
    native = row("native", 800, 1.2e-6, came=[1000] * 799 + [least])
    line = judged(capsys, native, row("limit", 800, 1e-6), *of_python(50))
    assert line["missed"] == ["800 viewers: 99.9% delivered to each"]


def test_a_sender_that_leaves_frames_out_fails(capsys: pytest.CaptureFixture[str]) -> None:
    native = row("native", 200, 1.2e-6)
    native.paces = [1.0, 0.8]
    line = judged(capsys, native, row("limit", 200, 1e-6), *of_python(50))
    assert line["missed"] == ["200 viewers: 97% of the pace"]


def test_a_run_that_did_not_end_fails_beside_those_that_did(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [row("native", 200, 1.2e-6), row("limit", 200, 1e-6), *of_python(50)]
    for kept in (rows, []):
        judge(kept, FORM, ["800 viewers, native: to the end"])
        line = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert line["missed"] == ["800 viewers, native: to the end"]


def test_frames_that_came_to_nobody_are_no_small_lag(capsys: pytest.CaptureFixture[str]) -> None:
    native = row("native", 200, 1.2e-6)
    native.lags, native.dropped = [], 60
    line = judged(capsys, native, row("limit", 200, 1e-6), *of_python(50))
    assert [name for name in line["missed"] if "lag" in name] == line["missed"] != []
