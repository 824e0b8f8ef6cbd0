from __future__ import annotations

import subprocess
import sys


def test_the_c_library_takes_the_thresholds() -> None:
    code = "from relay.memory import keep_trimmed\nassert keep_trimmed()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


SCATTERED = """
import psutil
from relay import memory

memory.keep_trimmed()
giver = memory.Giver()
me = psutil.Process()
rss = lambda: me.memory_info().rss / 2**20
before = rss()
blocks = [bytearray(4000) for _ in range(10_000)]
pins = blocks[::50]
full = rss()
assert not giver.due(), "nothing has become free"
del blocks
kept = rss()
assert giver.due()
giver.give_back()
assert not giver.due(), "once is enough"
print(full - before, kept - before, rss() - before)
"""

AGAIN = """
from relay import memory

memory.keep_trimmed()
giver = memory.Giver()
pinned = []
for turn in range(3):  # nobody looks while they are there
    blocks = [bytearray(4000) for _ in range(10_000)]
    pinned += blocks[::50]
    del blocks
    assert giver.due(), turn
    giver.give_back()
    assert not giver.due()
"""


def test_what_many_small_blocks_leave_between_others_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCATTERED], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    full, kept, after = map(float, done.stdout.split())
    assert full > 30
    assert kept > full / 2, "without being asked it keeps them"
    assert after < full / 4


def test_so_is_what_came_and_left_between_two_looks() -> None:
    done = subprocess.run([sys.executable, "-c", AGAIN], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
