"""The real network by one command."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from relay.cli import up
from relay.cli.network import running_network
from relay.config import Settings
from relay.errors import ConfigError, PeerError
from tests.network import Network, Program, eventually


async def _get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(url, ssl=False) as answer:
        return answer.status, await answer.text()


async def test_once_it_says_ready_it_is(tmp_path: Path) -> None:
    async with Network.running(tmp_path) as network:
        assert (await _get(network.url))[0] == 200
        assert (await _get(network.watch("anything")))[0] == 200
        assert (await _get(f"{network.url}/healthz"))[0] == 200
        await eventually(lambda: _is_ready(network.url))
        models = json.loads((await _get(f"{network.url}/v1/models"))[1])
        assert {"effects", "passthrough", "echo"} <= set(json.dumps(models).split('"'))


async def _is_ready(url: str) -> bool:
    try:
        return (await _get(f"{url}/readyz"))[0] == 200
    except aiohttp.ClientConnectionError:
        return False


async def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    network = await Network.start(tmp_path)
    family = psutil.Process(network.up.pid).children(recursive=True)
    assert len(family) >= 4  # three roles and a media process
    network.up.send(signal.SIGINT)
    assert await network.up.wait() == 0
    assert not [process for process in family if process.is_running()], network.up.said()


async def test_a_port_in_use_is_named(network: Network, tmp_path: Path) -> None:
    port = network.up.ready["orchestrator"]["port"]
    with pytest.raises(AssertionError, match=f"{port} is in use .orchestrator.port"):
        await Network.start(tmp_path, orchestrator__port=port)


def test_a_wrong_public_address_is_told_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(*_: object, **__: object) -> None:
        raise AssertionError("a role is started")

    monkeypatch.setattr(up, "Supervisor", start)
    pair = "192.0.2.77=203.0.113.5"
    webrtc = {"host": "0.0.0.0", "public_addresses": [pair]}
    settings = Settings.model_validate({"gateway": {"open": True, "webrtc": webrtc}})
    with pytest.raises(ConfigError, match=r"192\.0\.2\.77 is no address of this machine"):
        up.run(settings, as_json=True)


@pytest.mark.parametrize("role", ["worker", "orchestrator", "gateway"])
async def test_a_killed_role_comes_back_at_its_address(network: Network, role: str) -> None:
    await eventually(lambda: _is_ready(network.url))
    old = network.process(role)
    assert old is not None
    old.kill()
    await eventually(lambda: _replaced(network, role, old.pid))
    await eventually(lambda: _is_ready(network.url), 20)


def _replaced(network: Network, role: str, old: int) -> bool:
    now = network.process(role)
    return now is not None and now.pid != old


@pytest.mark.parametrize("role", ["gateway", "orchestrator", "worker"])
async def test_a_role_alone_says_ready_and_ends_on_a_signal(tmp_path: Path, role: str) -> None:
    settings: dict[str, Any] = {f"{role}.port": 0, "gateway.webrtc.port": 0, "worker.slots": 1}
    if role == "orchestrator":
        settings["orchestrator.models"] = [{"model_id": "echo", "url": "http://127.0.0.1:9"}]
    program = await Program.start(role, tmp_path, settings)
    assert program.ready["role"] == role
    assert program.ready["pid"] == program.pid
    program.send(signal.SIGTERM)
    assert await program.wait() == 0, program.said()


async def test_a_phone_gets_https(tmp_path: Path) -> None:
    settings = {"gateway__tls__self_signed": True, "gateway__data_dir": str(tmp_path)}
    async with Network.running(tmp_path, **settings) as network:
        assert network.url.startswith("https://")
        assert (await _get(network.url))[0] == 200


async def test_a_network_of_ones_own_that_cannot_start_says_why(
    network: Network, tmp_path: Path
) -> None:
    port = network.up.ready["orchestrator"]["port"]
    taken = running_network(tmp_path / "log", {"orchestrator.port": port})
    with pytest.raises(PeerError, match=f"{port} is in use"):
        await taken.__aenter__()
