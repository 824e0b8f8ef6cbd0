"""The network's models file, as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relay.config import Orchestrator, Runner
from relay.errors import ConfigError
from relay.orchestrator import models_file
from relay.orchestrator.models_file import runners_of

LIVE = {"pipeline": "live-video-to-video", "model_id": "ident", "url": "http://127.0.0.1:8900"}


def read(path: Path, content: Any) -> tuple[Runner, ...]:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return runners_of(Orchestrator(models_file=path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "aiModels.json"


def test_an_entry_reads_as_on_a_stock_node(path: Path) -> None:
    (runner,) = read(
        path,
        [
            {
                **LIVE,
                "token": "secret",
                "warm": True,
                "capacity": 4,
                "price_per_unit": 1000,
                "pixels_per_unit": 3,
                "currency": "USD",
                "optimization_flags": {"SFAST": True},
                "gateway": "default",
            }
        ],
    )
    assert runner.model_dump() == {
        "pipeline": "live-video-to-video",
        "model_id": "ident",
        "url": "http://127.0.0.1:8900",
        "token": "secret",
        "warm": True,
        "capacity": 4,
        "price_per_unit": 1000,
        "pixels_per_unit": 3,
        "currency": "USD",
    }


def test_what_is_absent_is_what_a_stock_node_takes(path: Path) -> None:
    (runner,) = read(path, [{**LIVE, "token": None}])
    assert (runner.warm, runner.capacity, runner.token) == (False, 1, None)
    assert (runner.price_per_unit, runner.pixels_per_unit) == (0, 1)


def test_a_price_that_is_not_whole_stays_exact(path: Path) -> None:
    text = json.dumps([LIVE])[:-2] + ', "price_per_unit": 0.1, "pixels_per_unit": 1e3}]'
    (runner,) = read(path, text)
    assert (runner.price_per_unit, runner.pixels_per_unit) == (1, 10_000)


def test_entries_that_cannot_be_sold_here_are_skipped(path: Path) -> None:
    container = {"pipeline": "live-video-to-video", "model_id": "noop"}
    batch = {"pipeline": "text-to-image", "model_id": "x", "url": "http://h"}
    assert [r.model_id for r in read(path, [container, batch, LIVE])] == ["ident"]


def test_entries_without_an_address_are_for_the_runner_of_the_settings(path: Path) -> None:
    path.write_text(json.dumps([{"pipeline": "live-video-to-video", "model_id": "noop"}, LIVE]))
    settings = Orchestrator(models_file=path, runner_url="http://127.0.0.1:8900")
    assert [(r.model_id, r.url) for r in runners_of(settings)] == [
        ("noop", "http://127.0.0.1:8900"),
        ("ident", LIVE["url"]),
    ]


@pytest.mark.parametrize("gap", ["", " "])
def test_the_short_form_stands_in_the_place_of_a_path(gap: str) -> None:
    text = (
        f"live-video-to-video:noop:true,{gap}text-to-image:a/b:true,live-video-to-video:x/y:false"
    )
    settings = Orchestrator(models_file=Path(text), runner_url="http://127.0.0.1:8900")
    assert [(r.model_id, r.warm, r.capacity) for r in runners_of(settings)] == [
        ("noop", True, 1),
        ("x/y", False, 1),
    ]
    # Without a runner there is nothing to sell, and nothing to fail at.
    assert runners_of(Orchestrator(models_file=Path(text))) == ()


def test_settings_and_file_add_up(path: Path) -> None:
    path.write_text(json.dumps([LIVE]))
    own = Runner(model_id="own", url="http://h:1")
    other = Runner(pipeline="text-to-image", model_id="t", url="http://h:1")
    runners = runners_of(Orchestrator(models=[own, other], models_file=path))
    assert [runner.model_id for runner in runners] == ["own", "ident"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not JSON"),
        ("[" * 200_000, "not JSON"),
        ("{}", "not a JSON array"),
        ([7], "entry 0 is not an object"),
        ([{**LIVE, "price_per_unit": "10"}], "price_per_unit"),
        ([{**LIVE, "price_per_unit": True}], "price_per_unit"),
        ([{**LIVE, "price_per_unit": -1}], "price_per_unit"),
        ([{**LIVE, "pixels_per_unit": 0}], "pixels_per_unit"),
        ([{**LIVE, "capacity": -1}], "capacity"),
        ([{**LIVE, "model_id": None}], "model_id"),
        ([{**LIVE, "url": "ws://x"}], "ident"),
        ([LIVE] * 1001, "1001 runners"),
    ],
)
def test_what_is_wrong_is_named(path: Path, content: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read(path, content)


def test_a_file_that_is_not_there_or_too_large_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="aiModels"):
        runners_of(Orchestrator(models_file=path))
    monkeypatch.setattr(models_file, "MAX_FILE", 10)
    with pytest.raises(ConfigError, match="over 10 bytes"):
        read(path, [LIVE])
