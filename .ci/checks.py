"""Run format check, lint, types and tests, all of them, and end in one line for the whole.

The last line counts tests only, as pytest does; a check that failed is named behind them. A
skipped test is a failure where CI is set: a check that did not run proves nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

BIN = Path(sys.executable).parent
WORKERS = min(2, os.cpu_count() or 1)
"""Processes that share the test files: most tests wait rather than compute, yet the media of
more networks at once than there are cores would be late."""
CHECKS = {
    "format": [str(BIN / "ruff"), "format", "--check", "."],
    "lint": [str(BIN / "ruff"), "check", "."],
    "types": [str(BIN / "mypy")],
}


def counts(report: Path) -> tuple[int, int, int]:
    """Passed, failed and skipped of a JUnit report; a missing report is one failure."""
    if not report.is_file():
        return 0, 1, 0
    passed = failed = skipped = 0
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        left_out = int(suite.get("skipped", 0))
        passed += int(suite.get("tests", 0)) - bad - left_out
        failed += bad
        skipped += left_out
    return passed, failed, skipped


def main(arguments: list[str]) -> int:
    began = time.monotonic()
    results: dict[str, bool] = {}
    for name, command in CHECKS.items():
        print(f"== {name}", flush=True)
        results[name] = subprocess.run(command, check=False).returncode == 0
    print("== tests", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        pytest = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}"]
        pytest += ["-n", str(WORKERS), "--dist", "loadfile", *arguments]
        code = subprocess.run(pytest, check=False).returncode
        passed, failed, skipped = counts(report)
    if code and not failed:
        failed = 1
    if not passed and not failed:
        print("no test ran", flush=True)
        failed = 1
    words = {True: "ok", False: "FAILED"}
    print(
        "checks: "
        + ", ".join(f"{name} {words[good]}" for name, good in results.items())
        + f", tests {words[not failed]}; {time.monotonic() - began:.0f} s"
    )
    ending = f", {skipped} skipped" if skipped else ""
    ending += "".join(f"; {name} FAILED" for name, good in results.items() if not good)
    print(f"relay: {passed} passed, {failed} failed{ending}", flush=True)
    bad = failed or not all(results.values()) or (skipped and os.environ.get("CI"))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
