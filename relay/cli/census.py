"""``kill -USR1`` a role, and it logs what lives in it: tasks by what they run, files, threads."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import threading
from collections import Counter
from typing import Any

log = logging.getLogger(__name__)

MARK = "census: "
KINDS = 40


def install() -> None:
    """In the running loop."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: log.warning("%s%s", MARK, _line()))


def _line() -> str:
    return json.dumps(take())


def take() -> dict[str, Any]:
    """Counts of this process, after a collection: what is left is really held."""
    gc.collect()
    kinds = Counter(type(found).__qualname__ for found in gc.get_objects())
    return {
        "tasks": dict(Counter(map(_name, asyncio.all_tasks()))),
        "threads": threading.active_count(),
        "descriptors": _descriptors(),
        "objects": kinds.total(),
        "kinds": dict(kinds.most_common(KINDS)),
    }


def _name(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return str(getattr(coroutine, "__qualname__", coroutine))


def _descriptors() -> int | None:
    if not sys.platform.startswith("linux"):
        return None
    return len(os.listdir("/proc/self/fd")) - 1  # the listing's own


def read(line: str) -> dict[str, Any] | None:
    """The counts in a log line, text or JSON, or None when it is another line."""
    if MARK not in line:
        return None
    if line.startswith("{"):
        line = str(json.loads(line)["message"])
    _, found, rest = line.partition(MARK + "{")  # the logger's own name ends like the mark
    counts: dict[str, Any] | None = json.loads("{" + rest) if found else None
    return counts
