"""The gateway's values as the JSON of ``/v1/``: names and units that stay."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from relay.api import address
from relay.gateway.status import (
    Caution,
    Delay,
    Departure,
    Input,
    ModelOffer,
    Move,
    Output,
    ProcessStatus,
    Serving,
    StreamState,
    StreamStatus,
    ViewerStatus,
)


class View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DelayView(View):
    """Output minus input arrival of the same timestamp, at the gateway."""

    p50_ms: float
    p95_ms: float
    last_ms: float

    @classmethod
    def of(cls, delay: Delay) -> DelayView:
        return cls(
            p50_ms=round(delay.p50_ms, 2),
            p95_ms=round(delay.p95_ms, 2),
            last_ms=round(delay.last_ms, 2),
        )


class InputView(View):
    """What the publisher sends."""

    connected: bool
    fps: float
    bitrate: int = Field(description="Bits a second.")
    width: int | None
    height: int | None
    has_audio: bool
    packets: int
    lost: int
    keyframe_age: float | None = Field(description="Seconds since the last key frame.")
    process: int = Field(description="Which ingest process receives it; 0 is the gateway itself.")

    @classmethod
    def of(cls, given: Input) -> InputView:
        return cls(
            connected=given.connected,
            fps=round(given.fps, 1),
            bitrate=given.bitrate,
            width=given.width,
            height=given.height,
            has_audio=given.has_audio,
            packets=given.packets,
            lost=given.lost,
            keyframe_age=None if given.keyframe_age is None else round(given.keyframe_age, 2),
            process=given.process,
        )


class OutputView(View):
    """What viewers get."""

    fps: float
    bitrate: int = Field(description="Bits a second.")
    width: int | None
    height: int | None
    delay: DelayView | None

    @classmethod
    def of(cls, given: Output) -> OutputView:
        return cls(
            fps=round(given.fps, 1),
            bitrate=given.bitrate,
            width=given.width,
            height=given.height,
            delay=None if given.delay is None else DelayView.of(given.delay),
        )


class ServingView(View):
    """Which node serves the stream now, and why that one."""

    orchestrator: str
    model: str
    since: datetime
    why: str
    connect_ms: float
    price_per_unit: int = Field(description="Wei.")
    pixels_per_unit: int

    @classmethod
    def of(cls, given: Serving) -> ServingView:
        return cls(
            orchestrator=given.orchestrator,
            model=given.model,
            since=_time(given.since),
            why=given.why,
            connect_ms=round(given.connect_ms, 1),
            price_per_unit=given.price_per_unit,
            pixels_per_unit=given.pixels_per_unit,
        )


class WarningView(View):
    """What may be wrong with a stream that is served all the same."""

    code: str = Field(
        description="Stable: output_rate_low, output_still, output_silent, output_foreign, "
        "params_taken_back, input_silent, input_dropped or output_left."
    )
    reason: str

    @classmethod
    def of(cls, given: Caution) -> WarningView:
        return cls(code=given.code, reason=given.words)


class MoveView(View):
    """Why a stream's work moved, and from where to where."""

    at: datetime
    code: str = Field(description="Stable; what reason_code was while it moved.")
    reason: str
    from_orchestrator: str
    to_orchestrator: str | None = Field(description="Null until one has taken it.")
    seconds_without_picture: float | None = Field(
        description="From the last picture that viewers got before to the first one after it; null "
        "until one came."
    )

    @classmethod
    def of(cls, given: Move) -> MoveView:
        return cls(
            at=_time(given.at),
            code=given.code,
            reason=given.words,
            from_orchestrator=given.left,
            to_orchestrator=given.taken_by,
            seconds_without_picture=None if given.dark is None else round(given.dark, 2),
        )


class DepartureView(View):
    """When and why the publisher before this one left."""

    at: datetime
    reason: str

    @classmethod
    def of(cls, given: Departure) -> DepartureView:
        return cls(at=_time(given.at), reason=given.words)


class StreamView(View):
    """A live stream. What needs the publish key is null without it."""

    name: str
    state: StreamState
    reason: str = Field(description="In words a person can act on; empty when all is well.")
    reason_code: str = Field(description="Stable; empty when all is well.")
    model: str
    started_at: datetime | None
    viewers: int
    swaps: int = Field(
        description="How often its work moved to another node or worker, since its publisher came."
    )
    whip_url: str
    whep_url: str
    watch_url: str
    input: InputView | None
    output: OutputView | None
    warnings: list[WarningView] = Field([], description="Of a stream that is served all the same.")
    stream_id: str | None = None
    request_id: str | None = None
    params: dict[str, Any] | None = None
    serving: ServingView | None = None
    runner: dict[str, Any] | None = Field(None, description="The runner's last status event.")
    runner_error: str | None = None
    previous_publisher: DepartureView | None = Field(
        None, description="Why the one before left, also of a stream that is live again."
    )
    moves: list[MoveView] | None = Field(
        None, description="The last few of those that swaps counts, the newest last."
    )

    @classmethod
    def of(cls, given: StreamStatus, base: str, *, details: bool) -> StreamView:
        view = cls(
            name=given.name,
            state=given.state,
            reason=given.reason,
            reason_code=given.reason_code,
            model=given.model,
            started_at=None if given.started is None else _time(given.started),
            viewers=given.viewers,
            swaps=given.swaps,
            whip_url=address.whip(base, given.name),
            whep_url=address.whep(base, given.name),
            watch_url=address.watch(base, given.name),
            input=None if given.input is None else InputView.of(given.input),
            output=None if given.output is None else OutputView.of(given.output),
            warnings=[WarningView.of(caution) for caution in given.warnings],
        )
        if not details:
            return view
        told = f"{given.reason} ({given.reason_details})" if given.reason_details else given.reason
        return view.model_copy(
            update={
                "reason": told,
                "stream_id": given.stream_id,
                "request_id": given.request_id,
                "params": given.params,
                "serving": None if given.serving is None else ServingView.of(given.serving),
                "runner": given.runner,
                "runner_error": given.runner_error,
                "moves": [MoveView.of(move) for move in given.moves],
                "previous_publisher": None
                if given.departure is None
                else DepartureView.of(given.departure),
            }
        )


class ViewerView(View):
    """One viewer. Losses, jitter and round trip are of its last report."""

    id: str = Field(description="Short, for people; not the session's secret.")
    state: str = Field(description="connecting, waiting, catching up, live, paused or gone.")
    connected_for: float | None = Field(description="Seconds.")
    packets: int = Field(description="Sent, of pictures and sound.")
    octets: int
    resent: int = Field(description="Packets sent again.")
    nacked: int = Field(description="Packets that it asked for again.")
    keyframes_asked: int
    fraction_lost: float
    jitter_ms: float
    round_trip_ms: float | None
    estimate: int | None = Field(
        description="Bits a second that its path, the network from here to it, carries, by its "
        "feedback and losses; null where nothing tells of it."
    )
    queue_ms: float | None = Field(
        description="How long packets wait in the network; null without transport-wide feedback."
    )
    pauses: int = Field(
        description="How often its video was paused, the sound going on, for a path too small."
    )
    process: int = Field(description="Which process serves it; 0 is the gateway itself.")

    @classmethod
    def of(cls, given: ViewerStatus) -> ViewerView:
        trip, since, queue = given.round_trip_ms, given.connected_for, given.queue_ms
        return cls(
            id=given.id,
            state=given.state,
            connected_for=None if since is None else round(since, 1),
            packets=given.packets,
            octets=given.octets,
            resent=given.resent,
            nacked=given.nacked,
            keyframes_asked=given.keyframes_asked,
            fraction_lost=round(given.fraction_lost, 4),
            jitter_ms=round(given.jitter_ms, 2),
            round_trip_ms=None if trip is None else round(trip, 2),
            estimate=given.estimate,
            queue_ms=None if queue is None else round(queue, 2),
            pauses=given.pauses,
            process=given.process,
        )


class ProcessView(View):
    """A process that serves viewers or publishers."""

    kind: str = Field(description="gateway, egress or ingest.")
    number: int = Field(description="Of its kind; 0 is the gateway itself.")
    pid: int | None = Field(description="Null of one that is about to be started again.")
    state: str = Field(description="starting, ready, leaving or gone.")
    viewers: int
    publishers: int
    load: float = Field(description="Share of a core, over the last two seconds.")
    restarts: int
    dropped: int = Field(description="Pictures that were lost on their way to it or from it.")

    @classmethod
    def of(cls, given: ProcessStatus) -> ProcessView:
        return cls(
            kind=given.kind,
            number=given.number,
            pid=given.pid,
            state=given.state,
            viewers=given.viewers,
            publishers=given.publishers,
            load=round(given.load, 3),
            restarts=given.restarts,
            dropped=given.dropped,
        )


class ProcessList(View):
    processes: list[ProcessView]


class ViewerList(View):
    viewers: list[ViewerView]
    next: str | None = Field(description="Where the next page begins; null on the last.")


class StreamList(View):
    streams: list[StreamView]


class ModelView(View):
    """A model that some orchestrator offers now."""

    model: str
    pipeline: str
    orchestrators: int
    version: str | None
    params_schema: dict[str, Any] | None = Field(
        description="JSON Schema of its parameters, where the seller tells one."
    )

    @classmethod
    def of(cls, given: ModelOffer) -> ModelView:
        return cls(
            model=given.model,
            pipeline=given.pipeline,
            orchestrators=given.orchestrators,
            version=given.version,
            params_schema=given.schema,
        )


class ModelList(View):
    models: list[ModelView]


class ModelChoice(View):
    """What the body of a change of model says."""

    model: str = Field(min_length=1, max_length=256)
    params: dict[str, Any] | None = None


class ParamsView(View):
    params: dict[str, Any]


class GatewayView(View):
    """What a page needs to know before it begins."""

    version: str
    default_model: str
    needs_publish_key: bool
    ready: bool
    draining: bool


class Problem(View):
    """An error (RFC 9457). ``code`` is stable; ``detail`` is for people."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    error: str = Field(description="The same as detail.")


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
