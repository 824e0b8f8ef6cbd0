"""A role may open as many sockets as the system allows."""

from __future__ import annotations

import subprocess
import sys

SMALL = """
import resource, socket
from relay.cli import descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 300))
descriptors.allow_all()
opened = [socket.socket() for _ in range(200)]
print(len(opened))
"""


def test_a_low_limit_is_raised_to_what_is_allowed() -> None:
    ran = subprocess.run([sys.executable, "-c", SMALL], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "200\n"), ran.stderr
