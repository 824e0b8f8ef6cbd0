"""The network's events about streams, as values: what happened goes in, a dict comes out.

A reader of a stock gateway's topic finds here the same types and fields. Times are
milliseconds since the epoch, numbers inside ``data`` and text in the envelope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from relay.gateway.status import Input, Output

NO_ADDRESS: Final = "0x" + "0" * 40
"""The on-chain address of a node that works off-chain."""
ADDRESS_BYTES: Final = 20
TRACE: Final = "stream_trace"
EVENTS: Final = "ai_stream_events"
STATUS: Final = "ai_stream_status"
INGEST: Final = "stream_ingest_metrics"
DISCOVERY: Final = "discovery_results"
CAPABILITY: Final = "Live video to video"

MAX_TOPIC: Final = 128
BAD_LOSS: Final = 2.0  # percent; where the stock gateway calls a connection bad
BAD_JITTER: Final = 50.0  # milliseconds


@dataclass(frozen=True, slots=True)
class Entry:
    """One event before it has an envelope."""

    type: str
    data: Any


Tell = Callable[[Entry], None]


def silent(_: Entry) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Which stream start an event is about.

    Attributes:
        pipeline_id: the operator's own id of the pipeline, from its webhook.
    """

    stream_id: str
    request_id: str
    pipeline: str
    pipeline_id: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """One orchestrator that answered: its on-chain address, and milliseconds until it did."""

    address: bytes
    url: str
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Seller:
    """Who serves: its service address, and its on-chain address as it told us."""

    url: str
    address: bytes = b""

    @property
    def info(self) -> dict[str, str]:
        """``orchestrator_info``; empty texts when nobody serves."""
        return {"address": spelled(self.address) if self.url else "", "url": self.url}


NOBODY: Final = Seller("")


def spelled(address: bytes) -> str:
    """An on-chain address as text; the zero address for what is none."""
    return "0x" + address.hex() if len(address) == ADDRESS_BYTES else NO_ADDRESS


def trace(kind: str, subject: Subject, now_ms: int, by: Seller = NOBODY) -> Entry:
    return Entry(
        TRACE,
        {
            "type": kind,
            "timestamp": now_ms,
            "stream_id": subject.stream_id,
            "pipeline_id": subject.pipeline_id,
            "request_id": subject.request_id,
            "orchestrator_info": by.info,
        },
    )


def swap(subject: Subject, now_ms: int, by: Seller, message: str) -> Entry:
    """The job leaves ``by``; ``message`` says why."""
    data = trace("orchestrator_swap", subject, now_ms, by).data
    return Entry(TRACE, data | {"pipeline": subject.pipeline, "message": message})


def error(subject: Subject, message: str) -> Entry:
    return Entry(
        EVENTS,
        {
            "type": "error",
            "request_id": subject.request_id,
            "stream_id": subject.stream_id,
            "pipeline_id": subject.pipeline_id,
            "pipeline": subject.pipeline,
            "capability": CAPABILITY,
            "message": message,
        },
    )


def params_update(subject: Subject, params: Mapping[str, Any], by: Seller) -> Entry:
    return Entry(
        EVENTS,
        {
            "type": "params_update",
            "stream_id": subject.stream_id,
            "request_id": subject.request_id,
            "pipeline": subject.pipeline,
            "pipeline_id": subject.pipeline_id,
            "params": dict(params),
            "orchestrator_info": by.info,
        },
    )


def forwarded(subject: Subject, topic: str, body: Mapping[str, Any], by: Seller) -> Entry:
    """What a runner said, with whose stream it is about.

    Args:
        topic: the runner's choice, and so held to a size.
    """
    if body.get("type") == "status":
        topic = STATUS
    elif not topic.isprintable() or not 0 < len(topic) <= MAX_TOPIC:
        topic = EVENTS
    return Entry(
        topic,
        dict(body)
        | {
            "stream_id": subject.stream_id,
            "request_id": subject.request_id,
            "pipeline_id": subject.pipeline_id,
            "orchestrator_info": by.info,
        },
    )


def ingest_metrics(subject: Subject, now_ms: int, stats: Mapping[str, Any]) -> Entry:
    return Entry(
        INGEST,
        {
            "timestamp": now_ms,
            "stream_id": subject.stream_id,
            "pipeline_id": subject.pipeline_id,
            "request_id": subject.request_id,
            "stats": dict(stats),
        },
    )


def discovered(found: Iterable[Found]) -> Entry:
    return Entry(
        DISCOVERY,
        [
            {
                "address": spelled(one.address),
                "url": one.url,
                "latency_ms": str(round(one.latency_ms)),
            }
            for one in found
        ],
    )


def ingest_stats(seen: Input, output: Output | None) -> dict[str, Any]:
    """What is measured of a publisher, in the stock gateway's shape."""
    expected = seen.packets + seen.lost
    loss = 100.0 * seen.lost / expected if expected else 0.0
    track: dict[str, Any] = {
        "type": "video",
        "jitter": seen.jitter_ms,
        "packets_lost": seen.lost,
        "packets_received": seen.packets,
        "packet_loss_pct": loss,
        "rtt": 0,
    }
    if output is not None and output.delay is not None:
        track["latency"] = output.delay.last_ms / 1000
    return {
        "peer_conn_stats": {"ID": "iceTransport", "BytesReceived": seen.bytes, "BytesSent": 0},
        "track_stats": [track],
        "conn_quality": "bad" if loss > BAD_LOSS or seen.jitter_ms > BAD_JITTER else "good",
    }


def envelope(entry: Entry, key: str, *, now_ms: int, gateway: str) -> dict[str, Any]:
    return {
        "id": key,
        "type": entry.type,
        "timestamp": str(now_ms),
        "gateway": gateway,
        "data": entry.data,
    }
