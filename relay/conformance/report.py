"""The table of results, a line as each case ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay.conformance.case import Outcome, Result

WIDTH = 36


class Report:
    """Counts results and words them.

    Args:
        names: of the cases that are run, in their order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._counts = dict.fromkeys(Outcome, 0)
        self._width = max((len(name) for name in names), default=WIDTH)
        self._total = len(names)
        self._left = list(names)

    @property
    def failed(self) -> int:
        return self._counts[Outcome.FAILED]

    def add(self, result: Result) -> None:
        self._counts[result.outcome] += 1
        self._left.remove(result.name)

    def waiting(self) -> str:
        """Which case is waited for, the one that began first; empty when all have ended."""
        if not self._left:
            return ""
        return f"{self._total - len(self._left) + 1:>3}/{self._total}  {self._left[0]} ..."

    def line(self, result: Result) -> str:
        """One line, and two more for a failure."""
        done = sum(self._counts.values())
        head = (
            f"{done:>3}/{self._total}  {result.outcome:<11}  {result.name:<{self._width}}  "
            f"{result.section:<9}"
        )
        match result.outcome:
            case Outcome.FAILED:
                return (
                    f"{head}  {result.says}\n         seen:     {result.seen}\n"
                    f"         expected: {result.expected}"
                )
            case Outcome.NOT_OFFERED:
                return f"{head}  {result.seen}"
        return f"{head}  {result.says}"

    def sums(self) -> str:
        return ", ".join(f"{count} {outcome}" for outcome, count in self._counts.items())

    def told(self) -> dict[str, Any]:
        """The sums, for programs."""
        return {outcome.replace(" ", "_"): count for outcome, count in self._counts.items()}
