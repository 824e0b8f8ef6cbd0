"""Run format check, lint, tests and, beside them, types, all of them, and end in one line for the
whole.

The last line counts tests only, as pytest does; a check that failed is named behind them. Who
passed at a second try, alone, is counted and named: that is worth a look. A skipped test is a
failure where CI is set: a check that did not run proves nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

BIN = Path(sys.executable).parent
WORKERS = min(2, os.cpu_count() or 1)
"""Processes that share the test files: most tests wait rather than compute, yet the media of
more networks at once than there are cores would be late."""
FEW = 3
"""Tests that get a second try, alone. More than these are no accident."""
CHECKS = {
    "format": [str(BIN / "ruff"), "format", "--check", "."],
    "lint": [str(BIN / "ruff"), "check", "."],
}
NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
TYPES = ["nice", "-n", "19", str(BIN / "mypy")]
"""Beside the tests, of what they leave of the two cores."""


@dataclass
class Outcome:
    """What became of the tests.

    Attributes:
        failed: their names.
        alone: of those that failed beside others, and passed alone.
    """

    passed: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)


def read(report: Path) -> Outcome:
    """A JUnit report; a missing one, or one of no test, is a failure."""
    outcome = Outcome()
    if report.is_file():
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                outcome.failed.append(f"{case.get('classname')}::{case.get('name')}")
            elif case.find("skipped") is not None:
                outcome.skipped += 1
            else:
                outcome.passed += 1
    if not outcome.passed and not outcome.failed:
        outcome.failed.append("no test ran")
    return outcome


def pytest(arguments: list[str], folder: Path | None = None) -> Outcome:
    with tempfile.TemporaryDirectory() as reports:
        report = Path(reports) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", *arguments]
        # Tests start some hundred Pythons: each would compile the whole program again.
        environment = {key: os.environ[key] for key in os.environ if key != NO_BYTECODE}
        code = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
        outcome = read(report)
    if code and not outcome.failed:
        outcome.failed.append(f"pytest ended with {code}")
    return outcome


def run_tests(arguments: list[str], folder: Path | None = None) -> Outcome:
    """All tests, two files at a time; a few that failed once more, with nothing beside them.

    Two networks at once, with real media and real browsers, can take from each other the time that
    a test gives. Who fails alone has failed.
    """
    outcome = pytest(["-n", str(WORKERS), "--dist", "loadfile", *arguments], folder)
    if not 0 < len(outcome.failed) <= FEW or not outcome.passed:
        return outcome
    print(f"== {len(outcome.failed)} failed: again, alone", flush=True)
    once_more = ["-n", "0", "--last-failed", "--last-failed-no-failures=none", *arguments]
    again = pytest(once_more, folder)
    if again.failed or again.skipped or again.passed != len(outcome.failed):
        return outcome
    return Outcome(outcome.passed + again.passed, outcome.skipped, [], outcome.failed)


def main(arguments: list[str]) -> int:
    began = time.monotonic()
    results: dict[str, bool] = {}
    for name, command in CHECKS.items():
        print(f"== {name}", flush=True)
        results[name] = subprocess.run(command, check=False).returncode == 0
    with subprocess.Popen(TYPES, stdout=subprocess.PIPE, text=True) as types:
        print("== tests", flush=True)
        outcome = run_tests(arguments)
        print("== types", flush=True)
        print(types.communicate()[0], end="")
    results["types"] = types.returncode == 0
    failed, skipped = len(outcome.failed), outcome.skipped
    words = {True: "ok", False: "FAILED"}
    print(
        "checks: "
        + ", ".join(f"{name} {words[good]}" for name, good in results.items())
        + f", tests {words[not failed]}; {time.monotonic() - began:.0f} s"
    )
    for name in outcome.alone:
        print(f"passed alone only: {name}")
    ending = f", {skipped} skipped" if skipped else ""
    ending += f", {len(outcome.alone)} of them alone only" if outcome.alone else ""
    ending += "".join(f"; {name} FAILED" for name, good in results.items() if not good)
    print(f"relay: {outcome.passed} passed, {failed} failed{ending}", flush=True)
    bad = failed or not all(results.values()) or (skipped and os.environ.get("CI"))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
