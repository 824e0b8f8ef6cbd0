"""glibc's allocator, told to give memory back.

Left alone it raises its own threshold for large blocks with the first one freed, and from
then on the buffers of short connections sit between small ones and pin whole pages: a
gateway on which streams come and go grows by some 20 KB a job without holding an object.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
THRESHOLD: Final = 128 * 1024
"""Bytes; glibc's own first value, which setting it keeps in force."""


def keep_trimmed() -> bool:
    """Fix both thresholds; False where the C library is another one."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    return all(library.mallopt(what, THRESHOLD) for what in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
