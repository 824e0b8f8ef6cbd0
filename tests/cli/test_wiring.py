from __future__ import annotations

from relay.cli.options import load
from relay.cli.wiring import Address, wire


def _at(role: str, port: int) -> Address:
    told = {"role": role, "pid": 1, "url": f"http://127.0.0.1:{port}", "port": port}
    return Address.told({**told, "udp_port": port + 1})


def test_the_orchestrator_is_given_the_worker_for_each_of_its_pipelines() -> None:
    settings = load(None, ["worker.slots=3", "worker.token=t", "orchestrator.port=0"])
    wired = wire("orchestrator", settings, {"worker": _at("worker", 5)})
    models = wired.orchestrator.models
    assert [m.model_id for m in models] == [p.model_id for p in settings.worker.pipelines]
    assert {(m.url, m.token, m.capacity) for m in models} == {("http://127.0.0.1:5", "t", 3)}


def test_runners_that_were_configured_stand() -> None:
    settings = load(None, ["orchestrator.models=[{model_id: a, url: 'http://10.0.0.1:8900'}]"])
    assert wire("orchestrator", settings, {"worker": _at("worker", 5)}) == settings
    settings = load(None, ["orchestrator.models_file=models.json"])
    assert wire("orchestrator", settings, {"worker": _at("worker", 5)}) == settings


def test_the_gateway_is_given_the_orchestrator() -> None:
    wired = wire("gateway", load(None, []), {"orchestrator": _at("orchestrator", 7)})
    assert wired.gateway.orchestrators == ["http://127.0.0.1:7"]


def test_orchestrators_that_were_configured_stand() -> None:
    settings = load(None, ["gateway.orchestrators=[https://a:1, https://b:2]"])
    wired = wire("gateway", settings, {"orchestrator": _at("orchestrator", 7)})
    assert wired.gateway.orchestrators == ["https://a:1", "https://b:2"]


def test_a_role_that_starts_again_keeps_its_ports() -> None:
    settings = load(None, ["gateway.port=0", "gateway.webrtc.port=0"])
    addresses = {name: _at(name, 10) for name in ("worker", "orchestrator", "gateway")}
    gateway = wire("gateway", settings, addresses).gateway
    assert (gateway.port, gateway.webrtc.port) == (10, 11)
    assert wire("worker", settings, addresses).worker.port == 10
    assert wire("orchestrator", settings, addresses).orchestrator.port == 10
