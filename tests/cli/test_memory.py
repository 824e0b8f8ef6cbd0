from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys

import pytest

LARGE = 2 << 20


def _has_large_pages() -> bool:
    """Whether the kernel lays a page of this process's in a large one when asked."""
    library = ctypes.CDLL(None)
    with mmap.mmap(-1, 2 * LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.write(bytes(2 * LARGE))
        view = ctypes.c_char.from_buffer(area)
        at = -(-ctypes.addressof(view) // LARGE) * LARGE
        refused = library.madvise(ctypes.c_void_p(at), ctypes.c_size_t(LARGE), 25)
        del view
    return not refused


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


COLLAPSED = """
from pathlib import Path
from relay import memory

def large():
    told = Path("/proc/self/smaps_rollup").read_text().split()
    return int(told[told.index("AnonHugePages:") + 1]) * 1024

memory.MAX_COLLAPSED = int(input())
before = large()
blocks = [bytes([number % 251]) * 1000 for number in range(20_000)]
print(memory.collapse(), large() - before)
assert all(set(block) == {number % 251} for number, block in enumerate(blocks))
"""


def _collapsed(most: int) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", COLLAPSED],
        input=str(most),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told, seen = map(int, done.stdout.split())
    return told, seen


@pytest.mark.skipif(not _has_large_pages(), reason="a kernel without MADV_COLLAPSE")
def test_what_a_process_holds_is_laid_in_large_pages_and_stays_what_it_was() -> None:
    told, seen = _collapsed(64 << 20)
    assert told >= 10 << 20
    assert seen == told


@pytest.mark.skipif(not _has_large_pages(), reason="a kernel without MADV_COLLAPSE")
def test_no_more_is_laid_in_large_pages_than_the_bound() -> None:
    assert _collapsed(4 << 20) == (4 << 20, 4 << 20)


def test_where_nothing_may_be_large_nothing_is() -> None:
    assert _collapsed(0) == (0, 0)
