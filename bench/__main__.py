"""``python -m bench [NAME ...]``: run the benches, one after the other, and list their answers.

Without names: every bench but the soaks, which take long (``python -m bench soak_churn``).
With ``--help`` a bench that is named tells its options, and nothing runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HELP = frozenset({"-h", "--help"})
# Parts of benches, not benches.
PARTS = frozenset(
    {
        "__init__",
        "__main__",
        "beside",
        "faults",
        "legs",
        "numbers",
        "observed",
        "ours",
        "plain",
        "report",
        "servers",
        "serving",
        "source",
        "streams",
    }
)


def names() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in PARTS)


def run(name: str) -> dict[str, Any]:
    """Run one; its output is passed on, and its last line is the answer."""
    print(f"== bench/{name}.py", flush=True)
    last = ""
    with subprocess.Popen(
        [sys.executable, "-m", f"bench.{name}"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    try:
        answer: dict[str, Any] = json.loads(last)
    except ValueError:
        answer = {"bench": name, "pass": False, "ratio": None, "against": "it printed no answer"}
    if process.returncode:
        answer["pass"] = False
    return answer


def main(words: list[str]) -> int:
    chosen = [word for word in words if word not in HELP]
    asked = len(chosen) < len(words)
    if asked and not chosen:
        print(__doc__)
        print(
            f"There are: {', '.join(names())}. Each tells its own options: python -m bench.NAME -h"
        )
        return 0
    unknown = set(chosen) - set(names())
    if unknown:
        print(f"no such bench: {', '.join(sorted(unknown))}; there are: {', '.join(names())}")
        return 2
    if asked:
        told = [
            subprocess.run([sys.executable, "-m", f"bench.{name}", "--help"], check=False)
            for name in chosen
        ]
        return max(each.returncode for each in told)
    chosen = chosen or [name for name in names() if not name.startswith("soak")]
    answers = [run(name) for name in chosen]
    print()
    for answer in answers:
        word = "pass" if answer.get("pass") else "FAIL"
        print(f"{word}  {answer['bench']:<14} {answer.get('ratio')} of {answer.get('against')}")
        for name in answer.get("missed", ()):
            print(f"      missed: {name}")
        for name in answer.get("not_run", ()):
            print(f"      not run: {name}")
    return 0 if all(answer.get("pass") for answer in answers) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
