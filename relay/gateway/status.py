"""What a gateway tells about a stream: values only, ready to become JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from relay.market.offer import Offer


class StreamState(StrEnum):
    """Where a live stream stands, as viewers and the API see it."""

    WAITING = "waiting"  # viewers are here, no publisher yet
    CONNECTING = "connecting"  # a publisher is here, its media is not yet
    STARTING = "starting"  # an orchestrator is being found, or its first picture awaited
    LIVE = "live"  # processed pictures flow
    SWITCHING = "switching"  # the worker was lost, another is being found
    FAILED = "failed"  # no orchestrator could serve it; trying again
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Delay:
    """Output minus input arrival of the same timestamp at the gateway, milliseconds."""

    p50_ms: float
    p95_ms: float
    last_ms: float


@dataclass(frozen=True, slots=True)
class Input:
    connected: bool
    fps: float
    bitrate: int  # bits a second
    width: int | None
    height: int | None
    has_audio: bool
    packets: int
    lost: int
    keyframe_age: float | None  # seconds since the last key frame
    jitter_ms: float = 0.0
    bytes: int = 0  # received since the publisher came
    process: int = 0  # which ingest process receives it; 0 is the gateway itself


@dataclass(frozen=True, slots=True)
class Output:
    fps: float
    bitrate: int
    width: int | None
    height: int | None
    delay: Delay | None


@dataclass(frozen=True, slots=True)
class Caution:
    """What may be wrong with a stream that is served all the same."""

    code: str  # stable
    words: str


@dataclass(frozen=True, slots=True)
class Serving:
    """Which node serves the stream now, and why that one."""

    orchestrator: str  # its service address
    model: str
    since: float  # seconds since the epoch
    why: str
    connect_ms: float
    price_per_unit: int  # wei
    pixels_per_unit: int
    address: bytes = b""  # its on-chain address, as it told us

    @classmethod
    def of(cls, offer: Offer, since: float, why: str, connect_ms: float) -> Serving:
        """Who serves by an offer that was taken."""
        return cls(
            orchestrator=offer.transcoder,
            model=offer.model,
            since=since,
            why=why,
            connect_ms=round(connect_ms, 1),
            price_per_unit=offer.price_per_unit,
            pixels_per_unit=offer.pixels_per_unit,
            address=offer.address,
        )


@dataclass(frozen=True, slots=True)
class Move:
    """When, why, from where and to where a stream's work moved."""

    at: float  # seconds since the epoch
    code: str  # stable
    words: str
    left: str  # the orchestrator's service address
    taken_by: str | None = None  # the same; None until one has
    dark: float | None = None  # seconds in which viewers got no new picture; None until one came


@dataclass(frozen=True, slots=True)
class Departure:
    """When and why the publisher before this one left."""

    at: float  # seconds since the epoch
    words: str


@dataclass(frozen=True, slots=True)
class StreamStatus:
    name: str
    stream_id: str
    request_id: str
    model: str
    state: StreamState
    reason: str  # in words a person can act on; empty when all is well
    reason_code: str  # stable; empty when all is well
    started: float | None  # seconds since the epoch
    params: dict[str, Any]
    viewers: int
    swaps: int
    input: Input | None = None
    output: Output | None = None
    serving: Serving | None = None
    runner: dict[str, Any] = field(default_factory=dict)  # last status event, as received
    runner_error: str | None = None
    reason_since: float | None = None  # seconds since the epoch
    not_offered: tuple[str, ...] = ()  # what the publisher asked for and does not get
    warnings: tuple[Caution, ...] = ()
    moves: tuple[Move, ...] = ()  # the last few of ``swaps``, the newest last
    departure: Departure | None = None  # of the publisher before
    reason_details: str = ""  # beside the reason, for those who run the gateway only


@dataclass(frozen=True, slots=True)
class ViewerStatus:
    """One viewer of a stream. What it says of losses is of its last report."""

    id: str  # short; not the session's secret
    state: str
    connected_for: float | None  # seconds
    packets: int
    octets: int
    resent: int
    nacked: int  # packets that it asked for again
    keyframes_asked: int
    fraction_lost: float
    jitter_ms: float
    round_trip_ms: float | None
    estimate: int | None  # bits a second that its path carries
    queue_ms: float | None  # in the network, as transport-wide feedback shows it
    pauses: int  # of its video, since the path was too small
    process: int = 0  # which egress process serves it; 0 is the gateway itself


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A process that serves viewers or publishers; number 0 is the gateway itself."""

    kind: str  # gateway, egress, ingest
    number: int  # of its kind
    pid: int | None
    state: str
    viewers: int
    publishers: int
    load: float  # share of a core, over the last seconds
    restarts: int
    dropped: int  # pictures that were lost on their way to it or from it


@dataclass(frozen=True, slots=True)
class ModelOffer:
    """A model that some orchestrator offers now."""

    model: str
    pipeline: str
    orchestrators: int
    version: str | None = None
    schema: dict[str, Any] | None = None  # JSON Schema of its parameters, when the seller tells
