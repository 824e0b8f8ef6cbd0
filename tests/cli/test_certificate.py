"""The gateway's own certificate: kept in its folder, renewed while it runs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from relay.cli.nodes import GatewayRole, http_certificate
from relay.config import Settings
from relay.errors import ConfigError
from relay.rpc import certificate
from relay.rpc.certificate import Term
from tests.network import eventually
from tests.rpc.test_certificate import kept_leaf, leaf_at


def settings(folder: Path) -> Settings:
    return Settings.model_validate(
        {
            "gateway": {
                "port": 0,
                "data_dir": folder,
                "orchestrators": [],
                "tls": {"self_signed": True},
                "webrtc": {"port": 0},
            }
        }
    )


async def test_a_gateway_that_runs_shows_the_new_one_and_stops_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    term = Term(timedelta(seconds=4), timedelta(seconds=2), timedelta(seconds=0.05))
    monkeypatch.setattr(certificate, "TERM", term)
    role = GatewayRole(settings(tmp_path))
    port = (await role.start())["port"]
    try:
        first = await asyncio.to_thread(leaf_at, port)
        assert first == kept_leaf(tmp_path / "gateway")
        await eventually(lambda: kept_leaf(tmp_path / "gateway") != first)
        # By now it may be the one after that.
        assert await asyncio.to_thread(leaf_at, port) != first
    finally:
        await role.stop()
    assert "certificate" not in {task.get_name() for task in asyncio.all_tasks()}


def test_a_damaged_one_is_named(tmp_path: Path) -> None:
    gateway = settings(tmp_path).gateway
    assert http_certificate(gateway) is not None
    (tmp_path / "gateway" / "key.pem").write_text("garbage")
    with pytest.raises(ConfigError, match=r"gateway/key\.pem is no private key"):
        http_certificate(gateway)


def test_none_is_made_where_none_is_asked_for(tmp_path: Path) -> None:
    gateway = settings(tmp_path).gateway.model_copy(update={"tls": Settings().gateway.tls})
    assert http_certificate(gateway) is None
    assert list(tmp_path.iterdir()) == []
