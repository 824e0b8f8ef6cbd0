"""``network_capabilities``: what each orchestrator told of itself, for a listener of events.

A list can be of a thousand orchestrators, each with any number of models: it goes out in
several events, and what is told of one has a bound.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from relay.gateway.journal import Entry, Tell, spelled
from relay.rpc.capabilities import Capabilities
from relay.rpc.hardware import HardwareInformation
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.price_info import PriceInfo

NETWORK: Final = "network_capabilities"
INTERVAL: Final = 25 * 60.0
"""Seconds between two tellings: a stock gateway's default."""
MAX_EVENT: Final = 48 << 10
"""Bytes of what one event tells; with its envelope it stays under what the courier takes."""
MAX_ROUND: Final = 1 << 20
"""Bytes of one telling; what is over it is left out."""
UNTOLD: Final[dict[str, Any]] = {
    "capabilities": None,
    "price_info": None,
    "capabilities_prices": None,
    "hardware": None,
}


class Census:
    """Collects one round's answers whenever a telling is due."""

    def __init__(self) -> None:
        self._next = 0.0
        self._told: list[tuple[dict[str, Any], int]] | None = None
        self._bytes = 0

    def begin(self, now: float) -> None:
        """A round begins, in monotonic seconds; without this its answers are not kept."""
        self._told = [] if now >= self._next else None
        self._bytes = 0

    def heard(self, info: OrchestratorInfo) -> None:
        if self._told is None:
            return
        told = described(info)
        size = _size(told)
        if size > MAX_EVENT:
            told |= UNTOLD
            size = _size(told)
        if size <= MAX_EVENT and self._bytes + size <= MAX_ROUND:
            self._told.append((told, size))
            self._bytes += size

    def end(self, now: float, tell: Tell) -> None:
        """Tell what came together; nothing when nobody answered, and then the next round may."""
        if not self._told:
            return
        self._next = now + INTERVAL
        part: list[dict[str, Any]] = []
        filled = 0
        for told, size in self._told:
            if part and filled + size > MAX_EVENT:
                tell(Entry(NETWORK, part))
                part, filled = [], 0
            part.append(told)
            filled += size + 1
        tell(Entry(NETWORK, part))
        self._told = None


def _size(told: dict[str, Any]) -> int:
    """Bytes as JSON; too many where it is none, as texts that are no UTF-8."""
    try:
        return len(orjson.dumps(told))
    except orjson.JSONEncodeError:
        return MAX_EVENT + 1


def described(info: OrchestratorInfo) -> dict[str, Any]:
    """One orchestrator, in a stock gateway's names; what is zero or empty is left out below
    the first level, as there."""
    recipient = info.ticket_params.recipient if info.ticket_params is not None else b""
    price = info.price_info
    return {
        "address": spelled(recipient) if recipient else "",
        "local_address": spelled(info.address),
        "orch_uri": info.transcoder,
        "capabilities": _capabilities(info.capabilities) if info.capabilities else None,
        "price_info": _price(price) if price is not None else None,
        "capabilities_prices": [_price(one) for one in info.capabilities_prices] or None,
        "hardware": [_hardware(one) for one in info.hardware] or None,
    }


def _filled(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _price(price: PriceInfo) -> dict[str, Any]:
    return _filled(
        pricePerUnit=price.price_per_unit,
        pixelsPerUnit=price.pixels_per_unit,
        capability=price.capability,
        constraint=price.constraint,
    )


def _capabilities(told: Capabilities) -> dict[str, Any]:
    constraints = {
        str(capability): {
            "models": {
                model: _filled(
                    warm=one.warm,
                    capacity=one.capacity,
                    runnerVersion=one.runner_version,
                    capacityInUse=one.capacity_in_use,
                )
                for model, one in models.items()
            }
        }
        for capability, models in (told.constraints or {}).items()
    }
    return _filled(
        bitstring=list(told.bitstring),
        mandatories=list(told.mandatories),
        capacities={str(number): count for number, count in told.capacities.items()},
        version=told.version,
        constraints=_filled(minVersion=told.min_version, PerCapability=constraints),
    )


def _hardware(told: HardwareInformation) -> dict[str, Any]:
    return _filled(
        pipeline=told.pipeline,
        model_id=told.model_id,
        gpu_info={
            key: _filled(
                id=gpu.id,
                name=gpu.name,
                major=gpu.major,
                minor=gpu.minor,
                memory_free=gpu.memory_free,
                memory_total=gpu.memory_total,
            )
            for key, gpu in told.gpus.items()
        },
    )
