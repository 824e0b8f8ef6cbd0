"""What the processes of a network hold, looked at from outside, over time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil

from relay.cli import census

ROLES: Final = ("gateway", "orchestrator", "worker")
CENSUS_BOUND: Final = 5.0
LOOKS: Final = 8
LOOK_EVERY: Final = 5.0
MIB: Final = float(1 << 20)


@dataclass(frozen=True, slots=True)
class Held:
    """What one process holds when nothing runs."""

    tasks: int | None
    """None for a worker's media process, which has no census."""
    descriptors: int
    sockets: int
    names: Mapping[str, int] = field(default_factory=dict)


class Observed:
    """The processes of one ``relay up``, found by the pids that it told.

    Args:
        ready: what ``relay up --json`` told.
        log: the file that its stderr goes to; a census is read from it.
    """

    def __init__(self, ready: Mapping[str, Any], log: Path) -> None:
        self._log = log
        self._pids = {role: int(ready[role]["pid"]) for role in ROLES}
        self._memory: list[tuple[float, dict[str, float]]] = []

    def processes(self) -> dict[str, psutil.Process]:
        """The roles, and the worker's media processes as ``slot 0``, ``slot 1``."""
        found = {role: psutil.Process(pid) for role, pid in self._pids.items()}
        slots = sorted(found["worker"].children(), key=lambda child: child.pid)
        return found | {f"slot {number}": child for number, child in enumerate(slots)}

    async def held(self) -> dict[str, Held]:
        """Everything's tasks, descriptors and sockets, after each role collected its garbage."""
        result = {}
        for name, process in self.processes().items():
            counts = await self._census(name) if name in ROLES else None
            names = counts["tasks"] if counts else {}
            result[name] = Held(
                sum(names.values()) if counts else None,
                process.num_fds(),
                len(process.net_connections(kind="all")),
                names,
            )
        return result

    async def left_over(self, before: Mapping[str, Held]) -> dict[str, str]:
        """What is held that was not, in words; empty once everything has come back.

        Looked at several times: a connection that is kept open between two polls is there
        at one moment and not at the next.
        """
        for _ in range(LOOKS):
            found = left_over(before, await self.held())
            if not found:
                break
            await asyncio.sleep(LOOK_EVERY)
        return found

    async def _census(self, role: str) -> dict[str, Any]:
        start = self._log.stat().st_size
        os.kill(self._pids[role], signal.SIGUSR1)
        deadline = time.monotonic() + CENSUS_BOUND
        while time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            with self._log.open() as file:
                file.seek(start)
                for line in file:
                    if (counts := census.read(line)) is not None:
                        return counts
        raise TimeoutError(f"{role} did not answer a SIGUSR1")

    async def watch_memory(
        self, every: float = 5.0, tell: Callable[[float, Mapping[str, float]], None] | None = None
    ) -> None:
        """Note each process's resident memory until cancelled.

        Args:
            tell: called with the seconds so far, and MiB by process.
        """
        while True:
            with contextlib.suppress(psutil.NoSuchProcess):
                sample = {
                    name: process.memory_info().rss / MIB
                    for name, process in self.processes().items()
                }
                self._memory.append((time.monotonic(), sample))
                if tell is not None:
                    tell(len(self._memory) * every, sample)
            await asyncio.sleep(every)

    def growth(self, warm_up: float) -> dict[str, float]:
        """MiB a minute of each process, by least squares, after ``warm_up`` seconds."""
        if not self._memory:
            return {}
        began = self._memory[0][0] + warm_up
        kept = [(at, sample) for at, sample in self._memory if at >= began]
        names = set.intersection(*(set(sample) for _, sample in kept)) if kept else set()
        return {
            name: slope([(at, sample[name]) for at, sample in kept]) * 60 for name in sorted(names)
        }

    def by_minute(self) -> dict[str, list[float]]:
        """MiB of each process at the end of each minute."""
        found: dict[str, list[float]] = {}
        if not self._memory:
            return found
        began, minute = self._memory[0][0], 1
        for at, sample in self._memory:
            if at >= began + 60 * minute:
                minute += 1
                for name, value in sample.items():
                    found.setdefault(name, []).append(round(value, 1))
        return found

    def rise(self) -> dict[str, float]:
        """How much more each process holds in the last quarter than in the second, as a share:
        of medians, so that it is no matter of a single look."""
        quarter = len(self._memory) // 4
        if not quarter:
            return {}
        second = [sample for _, sample in self._memory[quarter : 2 * quarter]]
        last = [sample for _, sample in self._memory[-quarter:]]
        names = set.intersection(*(set(sample) for sample in (*second, *last)))
        return {
            name: median(sample[name] for sample in last)
            / median(sample[name] for sample in second)
            - 1
            for name in sorted(names)
        }

    def memory(self) -> dict[str, tuple[float, float]]:
        """MiB of each process at the first and at the last look."""
        if not self._memory:
            return {}
        first, last = self._memory[0][1], self._memory[-1][1]
        return {
            name: (round(first[name], 1), round(last[name], 1)) for name in first if name in last
        }


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares; 0 for fewer than three points."""
    if len(points) < 3:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    below = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / below


def left_over(before: Mapping[str, Held], after: Mapping[str, Held]) -> dict[str, str]:
    """What a process holds after that it did not hold before, in words."""
    found = {}
    for name, then in before.items():
        now = after.get(name)
        if now is None:
            found[name] = "it is gone"
            continue
        words = []
        if then.tasks is not None and now.tasks is not None and now.tasks > then.tasks:
            more = {
                task: count - then.names.get(task, 0)
                for task, count in now.names.items()
                if count > then.names.get(task, 0)
            }
            words.append(f"{now.tasks - then.tasks} tasks {more}")
        if now.descriptors > then.descriptors:
            words.append(f"{now.descriptors - then.descriptors} descriptors")
        if now.sockets > then.sockets:
            words.append(f"{now.sockets - then.sockets} sockets")
        if words:
            found[name] = ", ".join(words)
    return found
