"""Fuzz native code that reads strangers' bytes, guided by coverage (clang's libFuzzer), under
the address and the undefined behaviour sanitizers.

``make fuzz ARGS="--seconds 3600"``; with ``--keep`` what was found goes into the corpus of the
tests, as few files as reach the same code.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FUZZ = ROOT / "tests" / "fuzz"
TARGETS = ("receive", "transport", "payload")
FLAGS = ["-g", "-O1", "-std=gnu11", "-fsanitize=fuzzer,address,undefined"]
LONGEST = 16_384  # bytes of an input


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="of all targets")
    parser.add_argument("--keep", action="store_true", help="renew the corpus of the tests")
    parser.add_argument("--targets", nargs="+", default=TARGETS, choices=TARGETS)
    given = parser.parse_args(arguments)
    compiler = shutil.which("clang")
    if compiler is None:
        print("the fuzzer is clang's, and it is missing: sudo apt-get install -y clang")
        return 2
    seconds = given.seconds // len(given.targets)
    return max([fuzz(compiler, target, seconds, keep=given.keep) for target in given.targets])


def fuzz(compiler: str, target: str, seconds: int, *, keep: bool) -> int:
    """One target's turn; the fuzzer's status."""
    corpus = FUZZ / target / "corpus"
    with tempfile.TemporaryDirectory() as name:
        program, found = Path(name) / "fuzz", Path(name) / "found"
        found.mkdir()
        flags = [*FLAGS, "-fno-sanitize-recover=all"]
        source = str(FUZZ / target / f"fuzz_{target}.c")
        subprocess.run([compiler, *flags, "-o", str(program), source], check=True)
        limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=10"]
        crashes = f"-artifact_prefix={ROOT}/fuzz-"
        code = subprocess.run(
            [program, *limits, crashes, "-print_final_stats=1", found, corpus], check=False
        ).returncode
        if code == 0 and keep:
            kept = Path(name) / "kept"
            kept.mkdir()
            merge: list[str | Path] = [
                program,
                "-set_cover_merge=1",
                f"-max_len={LONGEST}",
                kept,
                corpus,
            ]
            # Of what was found only what reaches other code, not the same code more often.
            subprocess.run([*merge, found, "-use_counters=0"], check=True)
            subprocess.run(merge, check=True)
            shutil.rmtree(corpus)
            shutil.copytree(kept, corpus)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
