"""The line that a bench ends with."""

from __future__ import annotations

import json

import pytest

from bench.report import report


@pytest.mark.parametrize(
    ("bars", "missed", "not_run"),
    [
        ({}, [], []),
        ({"at ten: 0.02": True}, [], []),
        ({"at one": False, "at five": True, "at ten": False}, ["at one", "at ten"], []),
        ({"at one": True, "half of before": None}, [], ["half of before"]),
        ({"at one": False, "half of before": None}, ["at one"], ["half of before"]),
    ],
)
def test_bars_that_were_missed_or_not_run_are_named(
    capsys: pytest.CaptureFixture[str],
    bars: dict[str, bool | None],
    missed: list[str],
    not_run: list[str],
) -> None:
    code = report("x", bars=bars, ratio=0.5, against="y", samples=[0.6, 0.5, 0.4], load=1.0)
    *words, line = capsys.readouterr().out.splitlines()
    assert words == [f"missed: {n}" for n in missed] + [f"not run: {n}" for n in not_run]
    assert json.loads(line) == {
        "bench": "x",
        "pass": not missed,
        "missed": missed,
        "not_run": not_run,
        "ratio": 0.5,
        "against": "y",
        "n": 3,
        "median": 0.5,
        "spread": [0.4, 0.6],
        "load": 1.0,
    }
    assert code == (1 if missed else 0)
