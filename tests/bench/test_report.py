"""The line that a bench ends with."""

from __future__ import annotations

import json

import pytest

from bench.report import report


@pytest.mark.parametrize(
    ("bars", "missed"),
    [
        ({}, []),
        ({"at ten: 0.02": True}, []),
        ({"at one": False, "at five": True, "at ten": False}, ["at one", "at ten"]),
    ],
)
def test_bars_that_were_missed_are_named(
    capsys: pytest.CaptureFixture[str], bars: dict[str, bool], missed: list[str]
) -> None:
    code = report("x", bars=bars, ratio=0.5, against="y", samples=[0.6, 0.5, 0.4], load=1.0)
    *words, line = capsys.readouterr().out.splitlines()
    assert words == [f"missed: {name}" for name in missed]
    assert json.loads(line) == {
        "bench": "x",
        "pass": not missed,
        "missed": missed,
        "ratio": 0.5,
        "against": "y",
        "n": 3,
        "median": 0.5,
        "spread": [0.4, 0.6],
        "load": 1.0,
    }
    assert code == (1 if missed else 0)
