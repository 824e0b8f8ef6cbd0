"""Every counter and histogram of a process, in one registry.

Base units, ``relay_`` in front, and never a stream, a session or an address as a label:
what exists once a stream belongs in its status and in the log.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

registry = CollectorRegistry()

ProcessCollector(registry=registry)
PlatformCollector(registry=registry)
GCCollector(registry=registry)

_DELAY = (
    0.002, 0.004, 0.006, 0.008, 0.010, 0.015, 0.020, 0.030, 0.040, 0.050,
    0.075, 0.100, 0.150, 0.200, 0.300, 0.500, 0.750, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip
_SETUP = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Tally(Collector):
    """A histogram of what comes with each picture: many values are counted at once, where
    ``Histogram`` takes five calls and two locks for each. For the loop's thread alone.

    Args:
        bounds: upper ones of its buckets, rising.
    """

    def __init__(self, name: str, words: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._words = words
        self._bounds = bounds
        self._names = [*map(floatToGoString, bounds), "+Inf"]
        self._counts = [0] * len(self._names)
        self._sum = 0.0

    def add(self, values: Iterable[float]) -> None:
        counts, bounds = self._counts, self._bounds
        for value in values:
            counts[bisect_left(bounds, value)] += 1
            self._sum += value

    def collect(self) -> Iterable[Metric]:
        so_far = map(float, accumulate(self._counts))
        buckets = list(zip(self._names, so_far, strict=True))
        yield HistogramMetricFamily(self._name, self._words, buckets, sum_value=self._sum)


# ------------------------------------------------------------------ streams of a gateway

STREAM_DELAY = Tally(
    "relay_stream_delay_seconds",
    "Output minus input arrival of the same timestamp, at the gateway.",
    _DELAY,
)
registry.register(STREAM_DELAY)
STREAM_STARTS = Counter(
    "relay_stream_starts_total", "Streams that a publisher started.", registry=registry
)
STREAM_ENDS = Counter("relay_stream_ends_total", "Streams whose publisher left.", registry=registry)
PARAMETER_UPDATES = Counter(
    "relay_parameter_updates_total", "Parameter updates that were taken.", registry=registry
)

EVENTS = Counter(
    "relay_events_total",
    "The network's events, by where they go and what came of it.",
    ["sink", "result"],
    registry=registry,
)

# ------------------------------------------------------------------ jobs of a gateway

JOB_SWAPS = Counter(
    "relay_job_swaps_total",
    "Jobs moved to another orchestrator or worker, by reason code.",
    ["reason"],
    registry=registry,
)
JOB_FAILURES = Counter(
    "relay_job_failures_total",
    "Attempts to start a job that failed, by error code.",
    ["code"],
    registry=registry,
)
JOB_CONNECT = Histogram(
    "relay_job_connect_seconds",
    "From posting a job until an orchestrator has accepted it.",
    registry=registry,
    buckets=_SETUP,
)
JOB_GAP = Histogram(
    "relay_job_gap_seconds",
    "From the end of one job to the first picture of the next.",
    registry=registry,
    buckets=_SETUP,
)

# ------------------------------------------------------------------ media

MEDIA_BYTES = Counter(
    "relay_media_bytes_total",
    "Bytes of video: ingest, job_output.",
    ["path"],
    registry=registry,
)
MEDIA_FRAMES = Counter(
    "relay_media_frames_total",
    "Access units of video: ingest, job_output.",
    ["path"],
    registry=registry,
)
PICTURES_DROPPED = Counter(
    "relay_job_input_dropped_total",
    "Pictures that a job was not sent, since its orchestrator read too slowly or was cut off.",
    registry=registry,
)
SEGMENTS_LEFT = Counter(
    "relay_job_output_left_total",
    "Output segments of which the rest was left, since it came long after the next one began.",
    registry=registry,
)
KEYFRAME_REQUESTS = Counter(
    "relay_keyframe_requests_total",
    "Key frames asked for: publisher, worker.",
    ["of"],
    registry=registry,
)

EGRESS_RESTARTS = Counter(
    "relay_egress_restarts_total", "Egress processes that were lost.", registry=registry
)
INGEST_RESTARTS = Counter(
    "relay_ingest_restarts_total", "Ingest processes that were lost.", registry=registry
)

DATAGRAMS_DROPPED = Counter(
    "relay_datagrams_dropped_total",
    "Datagrams that were not looked at: unknown (of no peer), malformed, checks (more STUN than"
    " any peer sends), dtls (more than a handshake takes). Of all processes of a gateway.",
    ["kind"],
    registry=registry,
)

# ------------------------------------------------------------------ sessions and HTTP

SESSIONS = Counter(
    "relay_sessions_total",
    "WHIP and WHEP offers: by kind and result code.",
    ["kind", "result"],
    registry=registry,
)
SESSION_SETUP = Histogram(
    "relay_session_setup_seconds",
    "From a POST's arrival to its answer.",
    ["kind"],
    registry=registry,
    buckets=_SETUP,
)
HTTP_REQUESTS = Counter(
    "relay_http_requests_total",
    "Requests by route (the pattern, not the address), method and status.",
    ["route", "method", "status"],
    registry=registry,
)
HTTP_SECONDS = Histogram(
    "relay_http_request_seconds",
    "Time to answer, by route.",
    ["route"],
    registry=registry,
    buckets=_SETUP,
)
HTTP_OPEN = Gauge("relay_http_requests_open", "Requests being answered now.", registry=registry)
