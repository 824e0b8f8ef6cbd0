from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from relay.cli.options import load
from relay.cli.printed import MASK, masked, settings_yaml
from relay.config import Settings
from relay.errors import ConfigError


def test_what_is_printed_loads_again(tmp_path: Path) -> None:
    settings = load(
        None,
        [
            "gateway.webrtc.ice_servers=[{url: 'stun:stun.example:3478'}]",
            "orchestrator.models=[{model_id: a, url: 'http://127.0.0.1:1'}]",
            "worker.slots=5",
            "log.format=json",
        ],
    )
    file = tmp_path / "relay.yaml"
    file.write_text(settings_yaml(settings))
    assert load(file, []).model_dump() == settings.model_dump()


def test_secrets_are_masked_wherever_they_stand() -> None:
    settings = load(
        None,
        [
            "gateway.publish_key=hidden-1",
            "gateway.auth_webhook_key=hidden-6",
            "gateway.events_secret=hidden-7",
            "gateway.heartbeat_headers={Authorization: hidden-8}",
            "gateway.kafka={servers: ['b:1'], topic: t, user: u, password: hidden-9}",
            "gateway.webrtc.ice_servers=[{url: 'turn:t', username: u, credential: hidden-2}]",
            "orchestrator.models=[{model_id: a, url: 'http://x', token: hidden-3}]",
            "worker.token=hidden-4",
            "worker.pipelines=[{model_id: a, entry: 'a:A', settings: {api_key: hidden-5, k: 1}}]",
        ],
    )
    text = settings_yaml(settings)
    assert "hidden" not in text
    tree = yaml.safe_load(text)
    assert tree["gateway"]["publish_key"] == MASK
    assert tree["worker"]["pipelines"][0]["settings"] == {"api_key": MASK, "k": 1}


def test_a_printed_secret_is_not_taken_for_the_secret(tmp_path: Path) -> None:
    file = tmp_path / "relay.yaml"
    file.write_text(settings_yaml(load(None, ["gateway.publish_key=hidden"])))
    with pytest.raises(ConfigError, match=r"gateway\.publish_key"):
        load(file, [])


def test_a_switch_is_not_masked_whatever_its_name() -> None:
    assert masked({"trickle_tokens": False, "token": True}) == {
        "trickle_tokens": False,
        "token": True,
    }


def test_a_secret_that_is_not_set_is_not_masked() -> None:
    assert masked({"token": None, "tls": {"key": "path.pem"}}) == {
        "token": None,
        "tls": {"key": "path.pem"},
    }


def test_every_key_is_printed() -> None:
    assert yaml.safe_load(settings_yaml(Settings())) == Settings().model_dump(mode="json")
