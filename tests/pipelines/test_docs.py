"""The pipeline that docs/pipelines.md writes, loaded as a worker loads it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipelines.effects import EFFECTS
from relay.config import Settings
from relay.worker.loader import Entry, LoadedPipeline

PAGE = (Path(__file__).parents[2] / "docs" / "pipelines.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def scanner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedPipeline:
    (tmp_path / "scanner.py").write_text(blocks("python")[0])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "scanner", raising=False)
    settings: dict[str, Any] = yaml.safe_load(blocks("yaml")[0])
    first = settings["worker"]["pipelines"][0]
    return LoadedPipeline(Entry(first["model_id"], first["entry"], first["settings"]))


def test_the_pipeline_of_the_page_sweeps_a_bar(scanner: LoadedPipeline) -> None:
    scanner.begin(scanner.parameters.merged({"speed": 0.5, "width": 0.1}))
    frame = np.full((36, 101, 3), 20, np.uint8)
    frame.flags.writeable = False
    brightest = [
        int(scanner.process(frame, pts)[0, :, 0].argmax()) for pts in (0, 45_000, 90_000, 135_000)
    ]
    assert brightest == [0, 25, 50, 75]


def test_the_code_without_a_network_runs(
    scanner: LoadedPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(blocks("python")[1], {})
    assert float(capsys.readouterr().out) > 0


@pytest.mark.parametrize("block", blocks("yaml"))
def test_the_configurations_of_the_page_are_valid(block: str, tmp_path: Path) -> None:
    path = tmp_path / "relay.yml"
    path.write_text(block)
    assert Settings.load(path).worker.pipelines


def test_the_page_counts_the_effects_right() -> None:
    assert f"| {len(EFFECTS)} effects" in PAGE
