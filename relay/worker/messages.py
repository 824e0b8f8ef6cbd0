"""What the parent and the child of a slot say to one another: one JSON object a line. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final

import orjson

from relay.config import NodeTls, ReachMode
from relay.errors import ParseError

MAX_LINE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Configure:
    """Parent, first of all: what to load, and how to run jobs.

    Attributes:
        pipelines: one ``{"model_id", "entry", "settings"}`` each.
        beat: seconds between two signs of life.
    """

    pipelines: list[dict[str, Any]]
    bitrate: int
    keyframe_interval: float
    node_tls: NodeTls
    node_ca: str | None
    reach: ReachMode
    beat: float


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asked for a job, by the IP addresses of its connection; no message.

    Attributes:
        peer: theirs; None: not known.
        here: ours.
    """

    peer: str | None = None
    here: str | None = None


NOBODY: Final = Caller()


@dataclass(frozen=True, slots=True)
class Start:
    """Parent: run this job.

    Attributes:
        start: fields of a ``RunnerStart``; the model is one that was loaded.
        peer, here: the IP addresses of the connection that it was asked for on.
    """

    start: dict[str, Any]
    peer: str | None = None
    here: str | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Parent: end the job that runs; ``Ended`` follows."""

    reason: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """Child: everything is loaded, or has failed to.

    Attributes:
        models: model id to ``{"version", "schema"}``, or to ``{"error"}``.
    """

    models: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Beat:
    """Child: a sign of life.

    Attributes:
        stuck: seconds that the media thread has been in the step that runs now.
    """

    stuck: float = 0.0


@dataclass(frozen=True, slots=True)
class Started:
    """Child: the job runs."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Child: the job cannot run as it was asked for."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Child: the job is over and its channels are deleted.

    Attributes:
        failed: it did not end because somebody wanted it to.
    """

    reason: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class LogLine:
    """Child: a line of its log, for the parent's own."""

    level: int
    name: str
    text: str = field(default="")


Message = Configure | Start | Stop | Loaded | Beat | Started | Refused | Ended | LogLine

_KINDS: Final[dict[str, type[Message]]] = {
    kind.__name__.lower(): kind
    for kind in (Configure, Start, Stop, Loaded, Beat, Started, Refused, Ended, LogLine)
}


def serialise(message: Message) -> bytes:
    """
    Raises:
        ParseError: it has no JSON form, or is longer than ``MAX_LINE``.
    """
    try:
        values = {each.name: getattr(message, each.name) for each in fields(message)}
        line = orjson.dumps({"kind": type(message).__name__.lower(), **values}) + b"\n"
    except TypeError as error:
        raise ParseError(f"no JSON form: {error}") from error
    if len(line) > MAX_LINE:
        raise ParseError(f"a message of {len(line)} bytes")
    return line


def parse(line: bytes) -> Message:
    """
    Raises:
        ParseError: not a message that is known, or not all of its fields.
    """
    try:
        values = orjson.loads(line)
        kind = _KINDS[values.pop("kind")]
        known = {each.name for each in fields(kind)}
        return kind(**{name: value for name, value in values.items() if name in known})
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ParseError(f"no message of a slot: {line[:80]!r}") from error
