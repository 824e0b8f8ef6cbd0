"""What is counted once a picture looks in /metrics as any counter and histogram."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from relay import metrics


def lines(registry: CollectorRegistry, name: str) -> list[str]:
    text = generate_latest(registry).decode()
    return [line for line in text.splitlines() if name in line and "_created" not in line]


def test_tallies_and_spreads_are_told_as_their_likes_are() -> None:
    usual = CollectorRegistry()
    counter = Counter("relay_x", "Some.", ["path"], registry=usual)
    histogram = Histogram("relay_y_seconds", "Some.", buckets=(0.01, 0.5, 1.0), registry=usual)
    tallies = metrics.Tallies("relay_x", "Some.", "path")
    spread = metrics.Spread("relay_y_seconds", "Some.", (0.01, 0.5, 1.0))
    try:
        for amount in (1, 1200):
            counter.labels("ingest").inc(amount)
            tallies.labels("ingest").inc(amount)
        for seconds in (0.001, 0.01, 0.2, 0.5, 7.0):
            histogram.observe(seconds)
            spread.observe(seconds)
        for name in ("relay_x", "relay_y_seconds"):
            assert lines(metrics.registry, name) == lines(usual, name)
            assert lines(usual, name)
    finally:
        metrics.registry.unregister(tallies)
        metrics.registry.unregister(spread)
