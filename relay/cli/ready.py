"""What is printed once a network, or a single role, is ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.cli.wiring import Address
from relay.config import Settings

END = "  Ctrl-C ends it all."


def links(base: str) -> dict[str, str]:
    """A gateway's addresses; NAME stands for a stream's name."""
    return {
        "studio": f"{base}/",
        "watch": f"{base}/watch/NAME",
        "whip": f"{base}/whip/NAME",
        "whep": f"{base}/whep/NAME",
        "api": f"{base}/v1",
    }


def ready_values(addresses: Mapping[str, Address]) -> dict[str, object]:
    """What a program wants to know of a whole network."""
    return {
        **links(addresses["gateway"].url),
        **{role: dict(address.facts) for role, address in addresses.items()},
    }


def ready_block(settings: Settings, addresses: Mapping[str, Address]) -> str:
    """What a person wants to know of a whole network."""
    gateway, orchestrator, worker = (
        addresses[role] for role in ("gateway", "orchestrator", "worker")
    )
    models = ", ".join(str(model) for model in worker.facts["models"])
    lines = [
        "",
        "  relay is ready",
        "",
        *_table(settings, gateway.url),
        "",
        f"  running   gateway (pid {gateway.pid}, media {_media(gateway.facts)})",
        f"            orchestrator (pid {orchestrator.pid}, {orchestrator.url})",
        f"            worker (pid {worker.pid}, {worker.facts['slots']} slots: {models})",
        *_warnings(settings),
    ]
    return "\n".join([*lines, "", END, ""])


def role_block(role: str, settings: Settings, told: Mapping[str, Any]) -> str:
    """The same for a role that runs alone."""
    first = f"relay {role} is ready at {told['url']} (pid {told['pid']})"
    if role != "gateway":
        return first
    gateway = settings.gateway
    lists = [gateway.orchestrator_webhook, gateway.remote_signer]
    named = [*gateway.own_orchestrators, *(f"those that {url} lists" for url in lists if url)]
    sellers = ", ".join(named) or "nobody"
    lines = [
        "",
        f"  {first}",
        "",
        *_table(settings, str(told["url"])),
        "",
        f"  media     {_media(told)}",
        f"  buys      from {sellers}",
        *([f"  not yet   {why} (/readyz tells)"] if (why := told.get("not_ready")) else []),
        *_warnings(settings),
    ]
    return "\n".join([*lines, ""])


def _media(told: Mapping[str, Any]) -> str:
    tcp = told.get("tcp_port")
    return f"on UDP {told['udp_port']}" + (f" and TCP {tcp}" if tcp is not None else "")


def _table(settings: Settings, base: str) -> list[str]:
    values = links(base)
    token = "the publish key" if settings.gateway.publish_key else "leave empty"
    return [
        f"  studio    {values['studio']}",
        f"  publish   {values['whip']}   (WHIP)",
        f"  play      {values['whep']}   (WHEP)",
        f"  watch     {values['watch']}   (a page)",
        f"  OBS       Settings > Stream > Service: WHIP; Server: {values['whip']};",
        f"            Bearer Token: {token}. Settings > Output: x264, 0 B-frames, key frame 1 s",
    ]


def _warnings(settings: Settings) -> list[str]:
    lines: list[str] = []
    if settings.gateway.tls.self_signed:
        lines += [
            "",
            "  The certificate is self-signed: a browser asks once whether you trust it, and",
            "  `relay publish` takes --insecure; OBS needs a real certificate, or http.",
        ]
    if settings.gateway.open:
        lines += ["", "  Open: anyone who reaches this machine may publish."]
    return lines
