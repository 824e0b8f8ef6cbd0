"""The one line that every bench prints last."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def report(
    bench: str,
    *,
    bars: Mapping[str, bool | None],
    ratio: float,
    against: str,
    samples: Sequence[float],
    **more: Any,
) -> int:
    """Print the bars that were missed, and the JSON line; the bench's exit status is returned.

    Args:
        bars: what the bench holds, and whether it did; None: it was not looked at in this run,
            and is named so. It passes where all that were looked at held.
        ratio: what was measured over what it is held against; smaller is better.
        against: the name of the thing in the same run that it is held against.
        samples: the single ratios or figures that the median and spread are of.
    """
    ordered = sorted(samples)
    missed = [name for name, held in bars.items() if held is False]
    not_run = [name for name, held in bars.items() if held is None]
    for name in missed:
        print(f"missed: {name}", flush=True)
    for name in not_run:
        print(f"not run: {name}", flush=True)
    line = {
        "bench": bench,
        "pass": not missed,
        "missed": missed,
        "not_run": not_run,
        "ratio": round(ratio, 4),
        "against": against,
        "n": len(ordered),
        "median": round(statistics.median(ordered), 4),
        "spread": [round(ordered[0], 4), round(ordered[-1], 4)],
        **more,
    }
    print(json.dumps(line), flush=True)
    return 1 if missed else 0


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of ``values`` lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
