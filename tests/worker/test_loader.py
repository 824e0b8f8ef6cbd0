from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from relay.errors import ConfigError
from relay.worker.loader import Entry, LoadedPipeline, PipelineFailed
from tests.worker.stand_ins import Moody, Paint

STAND_INS = "tests.worker.stand_ins"


def loaded(name: str, **settings: Any) -> LoadedPipeline:
    return LoadedPipeline(Entry("model", f"{STAND_INS}:{name}", settings))


def test_a_loaded_pipeline_tells_what_it_is() -> None:
    pipeline = loaded("Paint")
    assert pipeline.format == "yuv420p"
    assert pipeline.version == Paint.version
    assert pipeline.parameters.values == {"luma": 50, "other": 0}
    assert not pipeline.untouched


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ("nonsense", "not module:Class"),
        ("tests.worker.stand_ins:", "not module:Class"),
        (":Paint", "not module:Class"),
        ("tests.worker.no_such_module:Paint", "No module named"),
        (f"{STAND_INS}:NoSuchClass", "NoSuchClass"),
        (f"{STAND_INS}:NotAPipeline", "has no"),
        (f"{STAND_INS}:BadFormat", "format 'gray'"),
        ("json:loads", "missing"),
    ],
)
def test_what_is_no_pipeline_is_refused_by_name(entry: str, word: str) -> None:
    with pytest.raises(PipelineFailed, match=word):
        LoadedPipeline(Entry("model", entry, {}))


def test_a_failing_load_is_told_in_its_own_words() -> None:
    with pytest.raises(PipelineFailed, match="load: RuntimeError: no model at here"):
        loaded("BrokenLoad", path="here")


def test_a_schema_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError):
        loaded("BadSchema")


def test_what_a_pipeline_raises_comes_out_as_one_error() -> None:
    pipeline = loaded("Moody")
    frame = np.zeros((6, 4), np.uint8)
    for mood, word in (("raise", "not today"), ("exit", "SystemExit: 3"), ("none", "NoneType")):
        pipeline.begin({"mood": mood})
        with pytest.raises(PipelineFailed, match=word):
            pipeline.process(frame, 0)
    pipeline.begin({"mood": "well"})
    assert pipeline.process(frame, 0) is frame


@pytest.mark.parametrize(
    ("result", "fits"),
    [
        (np.zeros((6, 4), np.uint8), True),
        (np.zeros((3, 2), np.uint8), True),
        (np.zeros((6, 4), np.float32), False),
        (np.zeros((5, 4), np.uint8), False),
        (np.zeros((6, 3), np.uint8), False),
        (np.zeros((0, 0), np.uint8), False),
        (np.zeros((4, 4, 3), np.uint8), False),
        ([[1, 2], [3, 4]], False),
    ],
)
def test_a_result_is_checked(monkeypatch: pytest.MonkeyPatch, result: Any, fits: bool) -> None:
    monkeypatch.setattr(Moody, "process", lambda self, frame, pts: result)
    pipeline = loaded("Moody")
    pipeline.begin({"mood": "well"})
    frame = np.zeros((6, 4), np.uint8)
    if fits:
        assert pipeline.process(frame, 0) is result
    else:
        with pytest.raises(PipelineFailed, match="process gave"):
            pipeline.process(frame, 0)


@pytest.mark.parametrize("wanted", [(0, 0), (3, 4), (-2, 2), (100_000, 100_000)])
def test_an_impossible_size_is_refused(
    monkeypatch: pytest.MonkeyPatch, wanted: tuple[int, int]
) -> None:
    monkeypatch.setattr(Moody, "frame_size", lambda self, width, height: wanted)
    with pytest.raises(PipelineFailed, match="not possible"):
        loaded("Moody").wanted_size((64, 36))
