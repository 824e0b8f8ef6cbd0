"""How long each effect takes for a 720p frame, on one core.

Bar: p95 of every effect at most 15 ms, so that 30 frames a second leave room for the
codecs beside it. Times are CPU time of the one thread that an effect runs in: what a core
of its own would take, whoever else is at work here. Prints a table, and one JSON line last;
``ratio`` is the slowest effect's p95 against a median filter of the same luma by OpenCV in
the same run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from bench.report import percentile, report
from pipelines.contract import Frame
from pipelines.effects import EFFECTS, Effects, sample_picture
from pipelines.effects.opencv import cv2

WIDTH, HEIGHT = 1280, 720
BAR_MS = 15.0
REFERENCE = "cv2.medianBlur, 5x5, of a 720p luma plane"


def clip(frames: int) -> list[Frame]:
    """A picture that moves, with the noise of a camera, as yuv420p."""
    rng = np.random.default_rng(1)
    picture = sample_picture(WIDTH + 160, HEIGHT + 90)
    shown = []
    for number in range(frames):
        left, top = number * 7 % 160, number * 5 % 90
        part = picture[top : top + HEIGHT, left : left + WIDTH]
        noise = rng.integers(0, 9, part.shape, dtype=np.uint8)
        shown.append(cv2.cvtColor(cv2.add(part, noise), cv2.COLOR_RGB2YUV_I420))
    return shown


def timed(call: Callable[[int], object], rounds: int) -> list[float]:
    """Milliseconds of CPU of each round."""
    found = []
    for number in range(rounds):
        began = time.thread_time()
        call(number)
        found.append((time.thread_time() - began) * 1000)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=120, help="frames for each effect")
    rounds = parser.parse_args().frames
    frames = clip(30)
    pipeline = Effects()
    pipeline.load({})
    defaults = {name: item["default"] for name, item in pipeline.schema["properties"].items()}
    luma = frames[0][:HEIGHT]
    reference = timed(lambda number: cv2.medianBlur(luma, 5), rounds)
    rows: dict[str, list[float]] = {}
    first: dict[str, float] = {}
    for effect in EFFECTS:
        pipeline.reset()
        pipeline.update(defaults | {"effect": effect.name})

        def run(number: int) -> None:
            pipeline.process(frames[number % len(frames)], number * 3000)

        first[effect.name] = timed(run, 1)[0]
        rows[effect.name] = timed(run, rounds)
    print(f"{'effect':14} {'p50':>7} {'p95':>7} {'max':>7} {'first':>7}   ms, 720p, one core")
    for name, values in sorted(rows.items(), key=lambda row: percentile(row[1], 0.95)):
        print(
            f"{name:14} {statistics.median(values):7.2f} {percentile(values, 0.95):7.2f}"
            f" {max(values):7.2f} {first[name]:7.2f}"
        )
    slowest = max(rows, key=lambda name: percentile(rows[name], 0.95))
    worst, median = percentile(rows[slowest], 0.95), statistics.median(reference)
    return report(
        "effects",
        bars={f"the slowest, p95: {BAR_MS:g} ms": worst <= BAR_MS},
        ratio=worst / median,
        against=REFERENCE,
        samples=rows[slowest],
        effects=len(rows),
        slowest=slowest,
        slowest_p95_ms=round(worst, 3),
        bar_ms=BAR_MS,
        reference_ms=round(median, 3),
    )


if __name__ == "__main__":
    sys.exit(main())
