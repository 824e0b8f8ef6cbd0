"""A short run of the fuzzer of native receiving; the long one is ``make fuzz``."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

FUZZ = Path(__file__).parent / "receive"
FLAGS = ["-g", "-O1", "-std=gnu11", "-DREPLAY", "-fno-sanitize-recover=all"]


def test_nothing_that_the_fuzzer_has_found_or_is_near_it_breaks_the_native_part(
    tmp_path: Path,
) -> None:
    compiler = shutil.which("gcc")
    assert compiler is not None
    program = tmp_path / "replay"
    build = [compiler, *FLAGS, "-fsanitize=address,undefined", "-o", str(program)]
    subprocess.run([*build, str(FUZZ / "fuzz_receive.c")], check=True)
    corpus = sorted(str(path) for path in (FUZZ / "corpus").iterdir())
    ran = subprocess.run([str(program), *corpus], check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 100 * len(corpus) > 0
