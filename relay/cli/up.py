"""``relay up``: a whole network on one desk."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

import uvloop

from relay.cli import logs
from relay.cli.options import refuse_open_door
from relay.cli.supervisor import Supervisor
from relay.cli.wiring import Address
from relay.config import Settings


def run(settings: Settings, *, as_json: bool) -> int:
    """Run all three roles until a signal.

    Raises:
        ConfigError: settings that no role should be started with.
        ChildFailed: a role that could not start.
    """
    refuse_open_door(settings.gateway)
    logs.configure(settings.log, "up")

    def on_ready(addresses: Mapping[str, Address]) -> None:
        text = json.dumps(ready_values(addresses)) if as_json else ready_block(settings, addresses)
        print(text, flush=True)

    def on_log(role: str, line: str) -> None:
        if settings.log.format == "text":
            line = f"{role:<12} | {line}"
        print(line, file=sys.stderr, flush=True)

    uvloop.run(Supervisor(settings, on_ready=on_ready, on_log=on_log).run())
    return 0


def ready_values(addresses: Mapping[str, Address]) -> dict[str, object]:
    """What a program wants to know; NAME stands for a stream's name."""
    base = addresses["gateway"].url
    return {
        "studio": f"{base}/",
        "watch": f"{base}/watch/NAME",
        "whip": f"{base}/whip/NAME",
        "whep": f"{base}/whep/NAME",
        "api": f"{base}/v1",
        **{role: dict(address.facts) for role, address in addresses.items()},
    }


def ready_block(settings: Settings, addresses: Mapping[str, Address]) -> str:
    gateway, orchestrator, worker = (
        addresses[role] for role in ("gateway", "orchestrator", "worker")
    )
    values = ready_values(addresses)
    token = "the publish key" if settings.gateway.publish_key else "leave empty"
    models = ", ".join(str(model) for model in worker.facts["models"])
    lines = [
        "",
        "  relay is ready",
        "",
        f"  studio    {values['studio']}",
        f"  publish   {values['whip']}   (WHIP)",
        f"  play      {values['whep']}   (WHEP)",
        f"  watch     {values['watch']}   (a page)",
        f"  OBS       Settings > Stream > Service: WHIP; Server: {values['whip']};",
        f"            Bearer Token: {token}. Settings > Output: x264, 0 B-frames, key frame 1 s",
        "",
        f"  running   gateway (pid {gateway.pid}, media on UDP {gateway.facts['udp_port']})",
        f"            orchestrator (pid {orchestrator.pid}, {orchestrator.url})",
        f"            worker (pid {worker.pid}, {worker.facts['slots']} slots: {models})",
    ]
    if settings.gateway.tls.self_signed:
        lines += [
            "",
            "  The certificate is self-signed: a browser asks once whether you trust it.",
        ]
    if settings.gateway.open:
        lines += ["", "  Open: anyone who reaches this machine may publish."]
    return "\n".join([*lines, "", "  Ctrl-C ends it all.", ""])
