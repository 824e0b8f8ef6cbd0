"""The runner API: what an orchestrator asks of the container, or worker, behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from relay.errors import BadInput, ParseError, Unprocessable
from relay.rpc.address import check_url
from relay.rpc.capabilities import LIVE_PIPELINE
from relay.rpc.hardware import Gpu, HardwareInformation
from relay.rpc.json_body import dump, load_object, number_of, text_of
from relay.rpc.trickle_token import token_field, token_of

START_PATH: Final = "/live-video-to-video"
HEALTH_PATH: Final = "/health"
ALIVE_PATH: Final = "/healthz"
READY_PATH: Final = "/readyz"
VERSION_PATH: Final = "/version"
HARDWARE_PATH: Final = "/hardware/info"

NO_CAPACITY: Final = "insufficient capacity"
"""The words by which a busy runner says no, inside a 500: another status than 200, 400,
401, 422 or 500 makes a stock orchestrator drop its caller."""


class RunnerStatus(StrEnum):
    OK = "OK"  # streaming
    IDLE = "IDLE"  # ready, and free
    LOADING = "LOADING"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Slots:
    """How many jobs fit, and how many more do. An extension of ours."""

    total: int
    free: int


@dataclass(frozen=True, slots=True)
class RunnerHealth:
    """
    Attributes:
        slots: None where a runner does not tell (stock ones do not).
        broken: models of it that could not be loaded; its schema answer says why. An
            extension of ours.
        reason: what does not work, in words for a person; told, and not read.
    """

    status: RunnerStatus
    slots: Slots | None = None
    broken: tuple[str, ...] = ()
    reason: str = field(default="", compare=False)

    @classmethod
    def parse(cls, body: bytes) -> RunnerHealth:
        """
        Raises:
            ParseError: not JSON, or no status that is known.
        """
        fields = load_object(body, what="health", limit=64 << 10)
        try:
            status = RunnerStatus(text_of(fields.get("status")))
        except ValueError as error:
            raise ParseError(f"unknown health status {fields.get('status')!r}") from error
        told = fields.get("broken_models")
        names = told if isinstance(told, list) else []
        broken = tuple(name for name in names if isinstance(name, str))
        slots = fields.get("slots")
        if not isinstance(slots, dict):
            return cls(status, None, broken)
        total, free = slots.get("total"), slots.get("free")
        if type(total) is not int or type(free) is not int or not 0 <= free <= total:
            raise ParseError("slots of the health answer make no sense")
        return cls(status, Slots(total, free), broken)

    def serialise(self) -> bytes:
        fields: dict[str, Any] = {"status": self.status.value}
        if self.slots is not None:
            fields["slots"] = {"total": self.slots.total, "free": self.slots.free}
        if self.broken:
            fields["broken_models"] = list(self.broken)
        if self.reason:
            fields["reason"] = self.reason
        return dump(fields)


@dataclass(frozen=True, slots=True)
class RunnerVersion:
    version: str
    model_id: str = ""
    pipeline: str = LIVE_PIPELINE

    @classmethod
    def parse(cls, body: bytes) -> RunnerVersion:
        """
        Raises:
            ParseError: not JSON, or no version in it.
        """
        fields = load_object(body, what="version", limit=64 << 10)
        version = text_of(fields.get("version"))
        if not version:
            raise ParseError("the version answer has no version")
        return cls(version, text_of(fields.get("model_id")), text_of(fields.get("pipeline")))

    def serialise(self) -> bytes:
        return dump({"pipeline": self.pipeline, "model_id": self.model_id, "version": self.version})


_GPU_NUMBERS: Final = {
    "major": 2**31 - 1,
    "minor": 2**31 - 1,
    "memory_free": 2**63 - 1,
    "memory_total": 2**63 - 1,
}
"""The numbers told of a card, with what fits into their fields on the wire."""


def parse_hardware(body: bytes) -> HardwareInformation:
    """Read the answer of ``/hardware/info``; cards that make no sense are left out.

    Raises:
        ParseError: not JSON.
    """
    fields = load_object(body, what="hardware", limit=64 << 10)
    cards = fields.get("gpu_info")
    return HardwareInformation(
        pipeline=text_of(fields.get("pipeline")),
        model_id=text_of(fields.get("model_id")),
        gpus={
            key: Gpu(
                id=text_of(card.get("id")),
                name=text_of(card.get("name")),
                **{name: _whole(card.get(name), top) for name, top in _GPU_NUMBERS.items()},
            )
            for key, card in (cards.items() if isinstance(cards, dict) else ())
            if isinstance(card, dict)
        },
    )


def _whole(value: Any, top: int) -> int:
    return min(max(int(number_of(value)), 0), top)


def serialise_hardware(hardware: HardwareInformation) -> bytes:
    return dump(
        {
            "pipeline": hardware.pipeline,
            "model_id": hardware.model_id,
            "gpu_info": {
                key: {
                    "id": gpu.id,
                    "name": gpu.name,
                    "major": gpu.major,
                    "minor": gpu.minor,
                    "memory_free": gpu.memory_free,
                    "memory_total": gpu.memory_total,
                }
                for key, gpu in hardware.gpus.items()
            },
        }
    )


@dataclass(frozen=True, slots=True)
class RunnerStart:
    """The body of a start, seen from the runner.

    Attributes:
        subscribe_url: the runner reads its input here.
        publish_url: it writes its output here.
        control_url: parameters come here; empty when there is no such channel.
        events_url: status goes here; empty when there is no such channel.
        params: empty when there are none; then the field is left out on the wire.
        trickle_token: goes with every request to the channels; empty: none is asked for.
    """

    subscribe_url: str
    publish_url: str
    control_url: str = ""
    events_url: str = ""
    model_id: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    gateway_request_id: str = ""
    manifest_id: str = ""
    stream_id: str = ""
    trickle_token: str = field(default="", repr=False)

    @property
    def urls(self) -> tuple[str, ...]:
        """The channels that there are."""
        channels = (self.subscribe_url, self.publish_url, self.control_url, self.events_url)
        return tuple(url for url in channels if url)

    @classmethod
    def parse(cls, body: bytes) -> RunnerStart:
        """
        Raises:
            BadInput: not a JSON object (a runner answers 400).
            Unprocessable: a field is missing or is no address, params are no object, or
                the token is none (a runner answers 422, with ``detail`` as a list).
        """
        fields = load_object(body, what="start request")
        params = fields.get("params")
        if params is not None and not isinstance(params, dict):
            raise Unprocessable("params must be an object", code="bad_params")
        urls: dict[str, str] = {}
        for name in ("subscribe_url", "publish_url", "control_url", "events_url"):
            url = text_of(fields.get(name))
            if url:
                try:
                    check_url(url, what=name)
                except BadInput as error:
                    raise Unprocessable(str(error), code=error.code) from error
            elif name in ("subscribe_url", "publish_url"):
                raise Unprocessable(f"{name} is required", code="missing_field")
            urls[name] = url
        names = ("model_id", "gateway_request_id", "manifest_id", "stream_id")
        texts = {name: text_of(fields.get(name)) for name in names}
        try:
            token = token_of(fields)
        except BadInput as error:
            raise Unprocessable(str(error), code=error.code) from error
        return cls(**urls, params=params or {}, **texts, trickle_token=token)

    def serialise(self) -> bytes:
        fields: dict[str, Any] = {
            "subscribe_url": self.subscribe_url,
            "publish_url": self.publish_url,
            "control_url": self.control_url,
            "events_url": self.events_url,
            "model_id": self.model_id,
            "gateway_request_id": self.gateway_request_id,
            "manifest_id": self.manifest_id,
            "stream_id": self.stream_id,
            **token_field(self.trickle_token),
        }
        if self.params:
            fields["params"] = self.params
        return dump(fields)
