"""Which settings each role of ``relay up`` gets, once the roles before it have addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from relay.config import Runner, Settings

BEFORE: Final[Mapping[str, str | None]] = {
    "worker": None,
    "orchestrator": "worker",
    "gateway": "orchestrator",
}
"""Who must be up before whom: a buyer needs its seller's address."""


@dataclass(frozen=True, slots=True)
class Address:
    """What a role told once it listened."""

    role: str
    pid: int
    url: str
    port: int
    facts: Mapping[str, Any]

    @classmethod
    def told(cls, message: Mapping[str, Any]) -> Address:
        return cls(
            str(message["role"]), int(message["pid"]), message["url"], message["port"], message
        )


def wire(role: str, settings: Settings, addresses: Mapping[str, Address]) -> Settings:
    """The role's settings: what was configured stands, what was left out is filled in.

    A role that listened before keeps its port, so that the others find it again.

    Args:
        addresses: of every role that has listened since ``relay up`` began.
    """
    if own := addresses.get(role):
        settings = _keep_ports(role, settings, own)
    seller = settings.orchestrator
    if role == "orchestrator" and not seller.models and seller.models_file is None:
        return _with_runners(settings, addresses["worker"].url)
    if role == "gateway" and "orchestrators" not in settings.gateway.model_fields_set:
        gateway = settings.gateway.model_copy(
            update={"orchestrators": [addresses["orchestrator"].url]}
        )
        return settings.model_copy(update={"gateway": gateway})
    return settings


def _with_runners(settings: Settings, url: str) -> Settings:
    worker = settings.worker
    models = [
        Runner(model_id=pipeline.model_id, url=url, token=worker.token, capacity=worker.slots)
        for pipeline in worker.pipelines
    ]
    orchestrator = settings.orchestrator.model_copy(update={"models": models})
    return settings.model_copy(update={"orchestrator": orchestrator})


def _keep_ports(role: str, settings: Settings, own: Address) -> Settings:
    section = getattr(settings, role).model_copy(update={"port": own.port})
    if role == "gateway":
        webrtc = section.webrtc.model_copy(update={"port": own.facts["udp_port"]})
        section = section.model_copy(update={"webrtc": webrtc})
    return settings.model_copy(update={role: section})
