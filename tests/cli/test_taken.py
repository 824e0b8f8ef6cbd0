"""A role whose address is taken ends with one line that names the key."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.cli import up
from relay.cli.nodes import certificate_names
from relay.cli.options import load
from relay.cli.taken import listening, refuse_taken
from relay.errors import ConfigError, Unavailable
from tests.cli.test_app import relay

MODELS = "--set=orchestrator.models=[{model_id: echo, url: 'http://127.0.0.1:9'}]"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is taken for TCP and for UDP."""
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        port: int = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", port))
        yield port


@pytest.mark.parametrize(
    ("role", "transport", "key"),
    [
        ("gateway", "TCP", "gateway.port"),
        ("gateway", "UDP", "gateway.webrtc.port"),
        ("gateway", "TCP", "gateway.webrtc.tcp_port"),
        ("orchestrator", "TCP", "orchestrator.port"),
        ("worker", "TCP", "worker.port"),
    ],
)
def test_a_taken_port_is_named_with_its_key(
    role: str, transport: str, key: str, taken: int, tmp_path: Path
) -> None:
    free = [f"--set={name}=0" for name in ("gateway.port", "gateway.webrtc.port") if name != key]
    words = [*free, MODELS, f"--set={key}={taken}", f"--set=orchestrator.data_dir={tmp_path}"]
    done = relay(role, *words)
    free_one = "--port 0" if key == f"{role}.port" else f"--set {key}=0"
    told = f"{transport} 127.0.0.1:{taken} is in use ({key}); for free ones: {free_one}"
    assert done.stderr == f"error: {told}\n", "and nothing before it"
    assert done.returncode == 1


def test_a_whole_network_tells_it_once(taken: int, tmp_path: Path) -> None:
    free = [f"--set={role}.port=0" for role in ("gateway.webrtc", "orchestrator", "worker")]
    words = [*free, "--set=worker.slots=1", f"--set=orchestrator.data_dir={tmp_path}"]
    done = relay("up", "--log-level", "error", f"--port={taken}", *words)
    told = f"error: TCP 127.0.0.1:{taken} is in use (gateway.port); for free ones: --port 0\n"
    assert (done.returncode, done.stderr) == (1, told)


KEYS = (
    ("TCP", "gateway.port"),
    ("UDP", "gateway.webrtc.port"),
    ("TCP", "gateway.webrtc.tcp_port"),
    ("TCP", "orchestrator.port"),
    ("TCP", "worker.port"),
)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_all_ports_of_a_network_that_are_taken_are_named(
    host: str, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object, **__: object) -> None:
        raise AssertionError("a role is started")

    monkeypatch.setattr(up, "Supervisor", start)
    names = [f"{role}.host" for role in ("gateway", "gateway.webrtc", "orchestrator", "worker")]
    hosts = [f"{name}='{host}'" for name in names]
    settings = load(None, ["gateway.open=true", *hosts, *(f"{key}={taken}" for _, key in KEYS)])
    with pytest.raises(Unavailable) as told:
        up.run(settings, as_json=True)
    named = [f"{transport} {host}:{taken} is in use ({key})" for transport, key in KEYS]
    said, _, words = str(told.value).partition("; for free ones: ")
    assert said == "; ".join(named)
    assert words == " ".join(["--port 0", *(f"--set {key}=0" for _, key in KEYS[1:])])


def test_a_port_that_its_last_owner_has_just_left_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        server.accept()[0].close()  # this side waits a minute for what may still come
        client.close()
    free = [f"{key}={port if key == 'worker.port' else 0}" for _, key in KEYS]
    refuse_taken(load(None, free))


def test_what_else_is_wrong_with_an_address_is_for_its_role_to_tell() -> None:
    free = [f"{key}=0" for _, key in KEYS[:3]]
    hosts = ["worker.host=192.0.2.1", f"orchestrator.host={'a' * 70}.test"]
    refuse_taken(load(None, [*free, *hosts]))


def test_other_failures_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), listening("TCP", "a", 1, "k"):
        (tmp_path / "nothing").read_bytes()
    with pytest.raises(ConfigError), listening("TCP", "a", 1, "k"):
        raise ConfigError("another matter")
    with pytest.raises(OSError, match="in use"), listening("TCP", "a", 1, "k", code="tcp_bind"):
        raise OSError(98, "in use")  # of an address of something else
    told = pytest.raises(Unavailable, match=r"TCP \[::1\]:1 cannot be .*\(k\)")
    with told, listening("TCP", "::1", 1, "k"):
        raise OSError(13, "Permission denied")


@pytest.mark.parametrize("missing", ["cert", "key"])
def test_a_missing_certificate_is_one_line(missing: str, tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.pem" for name in ("cert", "key")}
    for name, file in files.items():
        if name != missing:
            file.write_text("")
    words = [f"--set=gateway.tls.{name}={file}" for name, file in files.items()]
    done = relay("gateway", "--log-level", "error", "--port", "0", *words)
    named = f"{files[missing]} (gateway.tls.{missing})"
    assert done.stderr == f"error: no such file: {named}\n"
    assert done.returncode == 2


def test_a_certificate_names_all_that_the_gateway_is_called() -> None:
    settings = load(
        None,
        [
            "gateway.host=192.0.2.1",
            "gateway.public_url=https://live.example/under",
            "gateway.webrtc.public_addresses=[198.51.100.7]",
        ],
    ).gateway
    names = certificate_names(settings)
    assert names[0] == "192.0.2.1"
    assert {"live.example", "198.51.100.7", "localhost", "127.0.0.1", "::1"} < set(names)
    assert "0.0.0.0" not in certificate_names(load(None, ["gateway.host=0.0.0.0"]).gateway)
    pair = "gateway.webrtc.public_addresses=[10.0.0.5=198.51.100.7]"
    assert "198.51.100.7" in certificate_names(load(None, [pair]).gateway)
