"""What each process of ours does with its memory: Python's collector of garbage, the pages that
it lies in, and glibc's allocator, told to give memory back.

Left alone that raises its own threshold for large blocks with the first one freed, and from
then on the buffers of short connections sit between small ones and pin whole pages: a
gateway on which streams come and go grows by some 20 KB a job without holding an object.
And what many small blocks leave behind, as two hundred viewers do who have left, it keeps
for the next ones, unless it is asked for the pages in between.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from typing import Any, Final

COLLECT: Final = (10_000, 5, 5)
"""Thresholds of the collector of garbage, by measurement (``bench/collector.py``): with Python's
own it stands in the way of pictures for some 10 ms now and then, and finds next to nothing, as
what a session takes is freed by its last reference."""
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
THRESHOLD: Final = 128 * 1024
"""Bytes; glibc's own first value, which setting it keeps in force."""
LOOK: Final = 15.0
"""Seconds between two looks at what is free."""
WORTH: Final = 8 << 20
"""Bytes that are free and held, from which on they are given back: it takes some
milliseconds, of a thread of its own."""
LARGE: Final = 2 << 20
"""Bytes of a large page."""
MAX_COLLAPSED: Final = 128 << 20
"""Bytes; a worker may hold far more, of what is no concern here."""
_MADV_COLLAPSE: Final = 25
_STATM: Final = "/proc/self/statm"


class _Counts(ctypes.Structure):
    """``struct mallinfo2`` (glibc 2.33): ``fordblks`` are the bytes that are free."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def settle() -> None:
    """Once a process has started. What start-up made stays to the end: walking it again and
    again would hold up the loop, and with it pictures, for tens of milliseconds each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)
    collapse()


def collapse() -> int:
    """Have the kernel lay what the process holds now in large pages (Linux 6.1).

    A gateway does a little of many things every few milliseconds, and by then its processor has
    forgotten where most of a thousand small pages are: to look that up is a fourteenth of all that
    it costs.

    Returns:
        How many bytes lie in large pages now; 0 where the kernel has none for us.
    """
    library = _glibc("madvise")
    if library is None:
        return 0
    done = 0
    for start, end in _private(MAX_COLLAPSED):
        for page in range(start, end, LARGE):
            if library.madvise(ctypes.c_void_p(page), ctypes.c_size_t(LARGE), _MADV_COLLAPSE) == 0:
                done += LARGE
    return done


def _private(most: int) -> Iterator[tuple[int, int]]:
    """From where to where whole large pages would fit in memory that is the process's alone,
    together at most so many bytes."""
    with open("/proc/self/maps") as file:
        lines = [line.split() for line in file]
    for where, rights, _, _, inode, *name in lines:
        if rights != "rw-p" or inode != "0" or name not in ([], ["[heap]"]):
            continue
        start, end = (int(each, 16) for each in where.split("-"))
        start, end = -(-start // LARGE) * LARGE, end // LARGE * LARGE
        if start < end:
            end = min(end, start + most)
            most -= end - start
            yield start, end


def _glibc(*names: str) -> Any:
    """The C library, when it has these functions; else None."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if all(hasattr(library, name) for name in names) else None


def keep_trimmed() -> bool:
    """Fix both thresholds; False where the C library is another one."""
    library = _glibc("mallopt")
    if library is None:
        return False
    return all(library.mallopt(what, THRESHOLD) for what in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))


def _resident() -> int:
    """Bytes of memory that the process has in use of the machine's."""
    with open(_STATM) as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Giver:
    """Gives pages back once enough is free and the process has grown since the last time."""

    def __init__(self) -> None:
        self._library = _glibc("mallinfo2", "malloc_trim")
        if self._library is not None:
            self._library.mallinfo2.restype = _Counts
        self._resident = self._held()

    def due(self) -> bool:
        """Whether it is worth it now. What was given back counts as free all the same, so it is
        the process that must have grown since; between two looks it may have, and shrunk."""
        if self._free() < WORTH:
            return False
        return self._held() - self._resident >= WORTH

    def give_back(self) -> None:
        if self._library is not None:
            self._library.malloc_trim(0)
        self._resident = self._held()

    async def run(self) -> None:
        """Look now and then, for as long as the process lives."""
        while self._library is not None:
            await asyncio.sleep(LOOK)
            if self.due():
                await asyncio.to_thread(self.give_back)

    def _held(self) -> int:
        return 0 if self._library is None else _resident()

    def _free(self) -> int:
        return 0 if self._library is None else int(self._library.mallinfo2().fordblks)
