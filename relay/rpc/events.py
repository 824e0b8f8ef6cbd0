"""Events: what a runner tells on the events channel, one JSON object a segment.

The network's envelope is ``{"event": {...}, "queue_event_type": "<topic>"}``; a bare
object counts as an event of topic ``ai_stream_events``. Times are milliseconds since the
epoch. Two keys of a status event are ours: ``extensions`` (the runner understands more
than the network's control messages) and ``pipeline_version``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from relay.errors import ParseError
from relay.rpc.json_body import dump, load_object, number_of, text_of, whole_of

TOPIC: Final = "ai_stream_events"
MAX_EVENT: Final = 1 << 20

EXTENSION_KEYFRAME: Final = "keyframe"
"""The runner takes ``KEYFRAME_MESSAGE`` on its control channel."""

KEYFRAME_MESSAGE: Final = b'{"relay":"keyframe"}'
"""Asks for a key frame. Sent only to a runner that announced it: a stock one takes every
object that it does not know as parameters."""

KEEPALIVE_MESSAGE: Final = b'{"keep":"alive"}'
"""What gateways write on a control channel every 10 s; runners ignore exactly this."""

STATES: Final = frozenset(
    {"LOADING", "OFFLINE", "ONLINE", "DEGRADED_INPUT", "DEGRADED_INFERENCE", "ERROR"}
)


@dataclass(frozen=True, slots=True)
class Event:
    """One event in its envelope."""

    body: Mapping[str, Any]
    topic: str = TOPIC

    @property
    def type(self) -> str:
        return text_of(self.body.get("type"))

    @classmethod
    def parse(cls, data: bytes) -> Event:
        """
        Raises:
            ParseError: not a JSON object. (An empty segment is none either; a reader
                skips what does not parse.)
            TooLarge: over 1 MiB.
        """
        fields = load_object(data, what="event", limit=MAX_EVENT)
        if "event" not in fields:
            return cls(fields)
        body = fields["event"]
        if not isinstance(body, dict):
            raise ParseError("the event is no JSON object")
        return cls(body, text_of(fields.get("queue_event_type")) or TOPIC)

    def serialise(self) -> bytes:
        return dump({"event": self.body, "queue_event_type": self.topic})

    @classmethod
    def error(cls, pipeline: str, message: str, *, time: int) -> Event:
        """Something went wrong in the runner, in words; ``time`` in milliseconds."""
        return cls({"type": "error", "pipeline": pipeline, "message": message, "time": time})

    def status(self) -> StatusEvent | None:
        """The status in it, or None when it is another kind of event."""
        return StatusEvent.from_body(self.body) if self.type == "status" else None


@dataclass(frozen=True, slots=True)
class InputStatus:
    last_input_time: int | None = None
    fps: float = 0.0


@dataclass(frozen=True, slots=True)
class InferenceStatus:
    """``last_params`` None stands for "as in the status before this one"."""

    last_output_time: int | None = None
    fps: float = 0.0
    last_params_update_time: int | None = None
    last_params: Mapping[str, Any] | None = None
    last_params_hash: str | None = None
    last_error_time: int | None = None
    last_error: str | None = None
    last_restart_time: int | None = None
    last_restart_logs: tuple[str, ...] | None = None
    restart_count: int = 0


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """
    Attributes:
        state: one of ``STATES``; what a peer writes is kept as it is.
        extensions: what the runner understands beyond the network's messages.
        pipeline_version: the version that its schema is kept under; empty from others.
    """

    pipeline: str
    state: str
    start_time: int
    timestamp: int
    last_state_update_time: int | None = None
    input_status: InputStatus = field(default_factory=InputStatus)
    inference_status: InferenceStatus = field(default_factory=InferenceStatus)
    extensions: tuple[str, ...] = ()
    pipeline_version: str = ""

    def to_event(self) -> Event:
        inference = self.inference_status
        body: dict[str, Any] = {
            "type": "status",
            "pipeline": self.pipeline,
            "start_time": self.start_time,
            "state": self.state,
            "last_state_update_time": self.last_state_update_time,
            "input_status": {
                "last_input_time": self.input_status.last_input_time,
                "fps": self.input_status.fps,
            },
            "inference_status": {
                "last_output_time": inference.last_output_time,
                "fps": inference.fps,
                "last_params_update_time": inference.last_params_update_time,
                "last_params": inference.last_params,
                "last_params_hash": inference.last_params_hash,
                "last_error_time": inference.last_error_time,
                "last_error": inference.last_error,
                "last_restart_time": inference.last_restart_time,
                "last_restart_logs": inference.last_restart_logs,
                "restart_count": inference.restart_count,
            },
            "last_status_timestamp": self.timestamp,
            "timestamp": self.timestamp,
        }
        if self.extensions:
            body["extensions"] = list(self.extensions)
        if self.pipeline_version:
            body["pipeline_version"] = self.pipeline_version
        return Event(body)

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> StatusEvent:
        """Read what is there; a field that is missing or of another kind gets its default."""
        source = _object(body.get("input_status"))
        inference = _object(body.get("inference_status"))
        params = inference.get("last_params")
        logs = inference.get("last_restart_logs")
        return cls(
            pipeline=text_of(body.get("pipeline")),
            state=text_of(body.get("state")),
            start_time=whole_of(body.get("start_time")) or 0,
            timestamp=whole_of(body.get("timestamp")) or 0,
            last_state_update_time=whole_of(body.get("last_state_update_time")),
            input_status=InputStatus(
                whole_of(source.get("last_input_time")),
                float(number_of(source.get("fps"))),
            ),
            inference_status=InferenceStatus(
                last_output_time=whole_of(inference.get("last_output_time")),
                fps=float(number_of(inference.get("fps"))),
                last_params_update_time=whole_of(inference.get("last_params_update_time")),
                last_params=params if isinstance(params, dict) else None,
                last_params_hash=text_of(inference.get("last_params_hash")) or None,
                last_error_time=whole_of(inference.get("last_error_time")),
                last_error=text_of(inference.get("last_error")) or None,
                last_restart_time=whole_of(inference.get("last_restart_time")),
                last_restart_logs=_texts(logs) if isinstance(logs, list) else None,
                restart_count=whole_of(inference.get("restart_count")) or 0,
            ),
            extensions=_texts(body.get("extensions")),
            pipeline_version=text_of(body.get("pipeline_version")),
        )


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()
