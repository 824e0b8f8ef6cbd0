"""The one line that every bench prints last."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any


def report(
    bench: str,
    *,
    passed: bool,
    ratio: float,
    against: str,
    samples: Sequence[float],
    **more: Any,
) -> int:
    """Print the JSON line; the exit status of the bench is returned.

    Args:
        ratio: what was measured over what it is held against; smaller is better.
        against: the name of the thing in the same run that it is held against.
        samples: the single ratios or figures that the median and spread are of.
    """
    ordered = sorted(samples)
    line = {
        "bench": bench,
        "pass": passed,
        "ratio": round(ratio, 4),
        "against": against,
        "n": len(ordered),
        "median": round(statistics.median(ordered), 4),
        "spread": [round(ordered[0], 4), round(ordered[-1], 4)],
        **more,
    }
    print(json.dumps(line), flush=True)
    return 0 if passed else 1


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of ``values`` lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
