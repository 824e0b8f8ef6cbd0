"""What `make test` says of tests that fail, and of those that fail beside others only."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

# Plug-ins of which these tests need nothing take half of the time to start.
LEAN = [f"-pno:{name}" for name in ("asyncio", "hypothesispytest", "pytest_cov", "timeout")]
CHECKS = Path(__file__).parents[2] / ".ci" / "checks.py"
FINE = "def test_fine(): pass\n"
FAILS = "def test_fails(): raise AssertionError\n"
ONCE = """
from pathlib import Path

def test_fails_once():
    marker = Path(__file__).with_suffix(".ran")
    ran = marker.exists()
    marker.touch()
    assert ran
"""


@pytest.fixture(scope="module")
def checks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("relay_checks", CHECKS)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made  # dataclasses look it up
    spec.loader.exec_module(made)
    return made


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(text)
    return folder


def test_what_fails_twice_has_failed(checks: ModuleType, tmp_path: Path) -> None:
    outcome = checks.run_tests(LEAN, write(tmp_path, fine=FINE, fails=FAILS, once=ONCE))
    assert outcome.failed == ["test_fails::test_fails", "test_once::test_fails_once"]


def test_what_passes_alone_is_named(checks: ModuleType, tmp_path: Path) -> None:
    outcome = checks.run_tests(LEAN, write(tmp_path, fine=FINE, once=ONCE))
    assert (outcome.passed, outcome.failed) == (2, [])
    assert outcome.alone == ["test_once::test_fails_once"]


def test_many_that_fail_get_no_second_try(checks: ModuleType, tmp_path: Path) -> None:
    many = {f"once{number}": ONCE for number in range(checks.FEW + 1)}
    outcome = checks.run_tests(LEAN, write(tmp_path, fine=FINE, **many))
    assert len(outcome.failed) == checks.FEW + 1


def test_a_run_of_no_test_has_failed(checks: ModuleType, tmp_path: Path) -> None:
    assert checks.run_tests(LEAN, tmp_path).failed == ["no test ran"]
