"""A network whose roles do nothing, to try how they are started and ended.

``python -m tests.cli.fake_network up [JSON]`` supervises three of them; the JSON names,
for a role, how it misbehaves:

- ``fail``: it refuses to start, with these words.
- ``crash``: it dies at start with a traceback.
- ``busy``: it drains as long as it may, and so many seconds pass until all have its goodbye.
- ``deaf``: it does not listen to SIGTERM.
- ``quit``: it ends well by itself, as soon as it is ready.
- ``brood``: it has a child of its own, whose pid it tells.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import uvloop

from relay.cli import logs, role
from relay.cli.child import ChildFailed
from relay.cli.lifeline import ChildLine
from relay.cli.supervisor import Supervisor
from relay.cli.wiring import Address
from relay.config import Log, Settings
from relay.errors import Unavailable


class FakeRole:
    def __init__(self, name: str, settings: Settings, faults: Mapping[str, Any]) -> None:
        self.drain_timeout = 30.0 if "busy" in faults else 0.1
        self._name = name
        self._settings = settings
        self._faults = faults

    async def start(self) -> Mapping[str, Any]:
        if "fail" in self._faults:
            raise Unavailable(self._faults["fail"])
        if "crash" in self._faults:
            raise ZeroDivisionError("nobody thought of this")
        if "deaf" in self._faults:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        told: dict[str, Any] = {}
        if "brood" in self._faults:
            told["brood"] = subprocess.Popen(["sleep", "600"]).pid  # noqa: ASYNC220
        port = getattr(self._settings, self._name).port or 1000 + len(self._name)
        return {
            **told,
            "url": f"http://127.0.0.1:{port}",
            "port": port,
            "udp_port": self._settings.gateway.webrtc.port or 99,
            "orchestrators": self._settings.gateway.orchestrators,
            "runners": [runner.url for runner in self._settings.orchestrator.models],
        }

    async def ready(self) -> Mapping[str, Any]:
        print(f"{self._name} has its settings", file=sys.stderr, flush=True)
        if "quit" in self._faults:
            asyncio.get_running_loop().call_later(0.2, os._exit, 0)
        return {}

    async def drain(self, deadline: float) -> None:
        await asyncio.sleep(deadline - time.monotonic() if "busy" in self._faults else 0.05)

    async def stop(self) -> None:
        if "busy" in self._faults:
            await asyncio.sleep(self._faults["busy"])
            print(f"{self._name} has said goodbye", file=sys.stderr, flush=True)


def run_role(name: str, fd: int, faults: Mapping[str, Any]) -> None:
    line = ChildLine(fd)
    settings = Settings.load(None, **line.receive())
    role.run(name, lambda given: FakeRole(name, given, faults), settings, line=line)


def run_up(faults: Mapping[str, Mapping[str, Any]]) -> int:
    logs.configure(Log(), "up", among_others=True)

    def command(name: str, fd: int) -> list[str]:
        told = json.dumps(faults.get(name, {}))
        return [sys.executable, "-m", "tests.cli.fake_network", name, str(fd), told]

    def on_ready(addresses: Mapping[str, Address]) -> None:
        print(json.dumps({key: dict(a.facts) for key, a in addresses.items()}), flush=True)

    def on_log(name: str, line: str) -> None:
        print(logs.in_column(name, line), file=sys.stderr, flush=True)

    settings = Settings.load(
        None, gateway={"port": 0, "webrtc": {"port": 0}}, orchestrator={"port": 0}
    )
    try:
        uvloop.run(Supervisor(settings, on_ready=on_ready, on_log=on_log, command=command).run())
    except ChildFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return failure.exit_code
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "up":
        sys.exit(run_up(json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}))
    run_role(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]))
