"""A short run of each fuzzer of native code; the long one is ``make fuzz``."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent
FLAGS = ["-g1", "-O1", "-std=gnu11", "-DREPLAY", "-fno-sanitize-recover=all"]


@pytest.mark.parametrize("target", ["receive", "transport", "payload"])
def test_nothing_that_the_fuzzer_has_found_or_is_near_it_breaks_the_native_part(
    target: str, tmp_path: Path
) -> None:
    compiler = shutil.which("gcc")
    assert compiler is not None
    program = tmp_path / "replay"
    build = [compiler, *FLAGS, "-fsanitize=address,undefined", "-o", str(program)]
    subprocess.run([*build, str(FUZZ / target / f"fuzz_{target}.c")], check=True)
    corpus = sorted(str(path) for path in (FUZZ / target / "corpus").iterdir())
    ran = subprocess.run([str(program), *corpus], check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 100 * len(corpus) > 0
