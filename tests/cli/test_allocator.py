from __future__ import annotations

import subprocess
import sys


def test_the_c_library_takes_the_thresholds() -> None:
    code = "from relay.cli.allocator import keep_trimmed\nassert keep_trimmed()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
