"""What is measured of each picture, and how the process counts it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from relay.gateway.rates import TOGETHER, Delays, Meter
from relay.metrics import STREAM_DELAY, Tally

BOUNDS = (0.002, 0.5, 1.0)


def text(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line]


def test_a_tally_reads_as_a_histogram() -> None:
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("delay_seconds", "Words.", buckets=BOUNDS, registry=theirs)
    tally = Tally("delay_seconds", "Words.", BOUNDS)
    ours.register(tally)
    assert text(ours) == text(theirs)
    values = [0.0, 0.002, 0.003, 0.5, 0.75, 7.5]
    tally.add(values)
    for value in values:
        histogram.observe(value)
    assert text(ours) == text(theirs)


def test_delays_are_told_together_and_all_of_them_in_the_end() -> None:
    def told() -> float:
        (family,) = STREAM_DELAY.collect()
        return next(one.value for one in family.samples if one.name.endswith("_count"))

    delays, before = Delays(), told()
    assert delays.summary() is None
    delays.untold += [number / 1000 for number in range(TOGETHER)]
    delays.tell()
    assert told() == before + TOGETHER
    delays.untold.append(TOGETHER / 1000)
    seen = delays.summary()
    assert seen is not None
    assert (seen.p50_ms, seen.last_ms) == (16.0, 32.0)
    assert told() == before + TOGETHER + 1


def test_rates_are_those_of_the_last_two_seconds() -> None:
    meter = Meter("test")
    for number in range(90):
        meter.add(1000, number / 30)
    assert meter.fps(89 / 30) == 30.0
    assert meter.bitrate(89 / 30) == 30 * 1000 * 8
    assert meter.total == 90_000
    assert meter.fps(89 / 30 + 1) == 15.0
    assert (meter.fps(10.0), meter.bitrate(10.0)) == (0.0, 0)
