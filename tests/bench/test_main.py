"""What ``python -m bench`` says of itself."""

from __future__ import annotations

import pytest

from bench.__main__ import main, names


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_the_benches_and_is_no_error(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([option]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in names())


@pytest.mark.parametrize("name", ["fanout", "discovery", "trickle"])
def test_a_bench_that_is_named_tells_its_own_help_and_no_more(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    said, errors = capfd.readouterr()
    assert said.startswith(f"usage: {name}.py [-h]")
    assert "There are:" not in said
    assert errors == ""


def test_a_bench_that_is_not_there_is_told_with_those_that_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["nosuch"]) == 2
    assert main(["nosuch", "--help"]) == 2
    for line in capsys.readouterr().out.splitlines():
        assert line.startswith("no such bench: nosuch; there are: ")
