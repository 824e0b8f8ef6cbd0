"""``relay up``: a whole network on one desk."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

import uvloop

from relay.cli import logs
from relay.cli.options import refuse_open_door
from relay.cli.ready import ready_block, ready_values
from relay.cli.supervisor import Supervisor
from relay.cli.taken import refuse_taken
from relay.cli.wiring import Address
from relay.config import Settings
from relay.protocols.webrtc.addresses import told_addresses


def run(settings: Settings, *, as_json: bool) -> int:
    """Run all three roles until a signal.

    Raises:
        ConfigError: settings that no role should be started with.
        Unavailable: ports that others have.
        ChildFailed: a role that could not start.
    """
    refuse_open_door(settings.gateway)
    # Before anything is started, which then would have to be ended for it.
    told_addresses(settings.gateway.webrtc.public_addresses, settings.gateway.webrtc.host)
    refuse_taken(settings)
    logs.configure(settings.log, "up", among_others=True)

    def on_ready(addresses: Mapping[str, Address]) -> None:
        text = json.dumps(ready_values(addresses)) if as_json else ready_block(settings, addresses)
        print(text, flush=True)

    def on_log(role: str, line: str) -> None:
        if settings.log.format == "text":
            line = logs.in_column(role, line)
        print(line, file=sys.stderr, flush=True)

    uvloop.run(Supervisor(settings, on_ready=on_ready, on_log=on_log).run())
    return 0
