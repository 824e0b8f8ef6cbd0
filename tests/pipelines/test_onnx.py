from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from pipelines.contract import Frame
from pipelines.onnx import Onnx
from pipelines.onnx.tensor import Spec, spec_of, to_frame, to_tensor
from tests.pipelines import models

OPEN: list[int | str] = [1, 3, "height", "width"]


def loaded(model: str, **settings: Any) -> Onnx:
    pipeline = Onnx()
    pipeline.load({"model": model} | settings)
    pipeline.reset()
    pipeline.update({"mix": 1.0} if "mix" in pipeline.schema["properties"] else {})
    return pipeline


def colours(width: int, height: int) -> Frame:
    rng = np.random.default_rng(4)
    frame: Frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    frame.flags.writeable = False
    return frame


def near(left: Frame, right: Frame, by: int = 1) -> bool:
    return left.shape == right.shape and np.abs(left.astype(int) - right).max() <= by


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        (OPEN, {}),
        (["n", 3, "h", "w"], {}),
        ([1, 3, 24, 40], {}),
        ([1, "h", "w", 3], {}),
        ([1, 24, 40, 3], {}),
        ([3, "h", "w"], {}),
        (["h", "w", 3], {}),
        ([1, 4, "h", "w"], {}),
        (["a", "b", "c", "d"], {"layout": "nhwc"}),
        (["a", "b", "c", "d"], {"layout": "nchw", "order": "bgr"}),
    ],
)
def test_any_layout_goes_through_unchanged(
    tmp_path: Path, shape: list[Any], settings: dict[str, Any]
) -> None:
    pipeline = loaded(models.identity(tmp_path / "m.onnx", shape), **settings)
    frame = colours(40, 24)
    assert near(pipeline.process(frame, 0), frame, 0)


@pytest.mark.parametrize(
    ("span", "white"), [("0..1", 1.0), ("0..255", 255.0), ("-1..1", 0.0), ([0, 10], 10.0)]
)
def test_the_range_is_as_the_settings_say(tmp_path: Path, span: Any, white: float) -> None:
    pipeline = loaded(models.invert(tmp_path / "m.onnx", OPEN, white), range=span)
    frame = colours(40, 24)
    assert near(pipeline.process(frame, 0), 255 - frame)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_floats_work(tmp_path: Path, kind: int) -> None:
    pipeline = loaded(models.invert(tmp_path / "m.onnx", OPEN, kind=kind))
    frame = colours(40, 24)
    assert near(pipeline.process(frame, 0), 255 - frame)


def test_bytes_are_0_to_255_by_themselves(tmp_path: Path) -> None:
    pipeline = loaded(models.invert_bytes(tmp_path / "m.onnx", [1, "h", "w", 3]))
    frame = colours(40, 24)
    assert near(pipeline.process(frame, 0), 255 - frame, 0)


def test_an_answer_may_have_another_range_than_the_input(tmp_path: Path) -> None:
    pipeline = loaded(models.identity(tmp_path / "m.onnx", OPEN), range="0..1", output_range=[0, 2])
    frame = colours(40, 24)
    assert near(pipeline.process(frame, 0), frame // 2)


def test_an_answer_may_have_another_layout_than_the_input(tmp_path: Path) -> None:
    pipeline = loaded(models.transposed(tmp_path / "m.onnx"))
    frame = colours(40, 24)
    assert near(pipeline.process(frame, 0), frame, 0)


def test_grey_models_get_and_give_grey(tmp_path: Path) -> None:
    pipeline = loaded(models.identity(tmp_path / "m.onnx", [1, 1, "h", "w"]))
    frame = colours(40, 24)
    grey = np.rint(frame @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    assert near(pipeline.process(frame, 0), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize(("order", "channel"), [("rgb", 0), ("bgr", 2)])
def test_the_order_of_colours_is_as_the_settings_say(
    tmp_path: Path, order: str, channel: int
) -> None:
    model = models.first_channel(tmp_path / "m.onnx", OPEN, [1, 1, "h", "w"])
    frame = colours(40, 24)
    result = loaded(model, order=order).process(frame, 0)
    assert near(result, np.repeat(frame[..., channel : channel + 1], 3, axis=2), 0)


def test_a_fixed_size_is_asked_for_and_the_source_size_comes_back(tmp_path: Path) -> None:
    pipeline = loaded(models.twice(tmp_path / "m.onnx", [1, 3, 36, 64], [1, 3, 72, 128]))
    assert pipeline.frame_size(1280, 720) == (64, 36)
    assert pipeline.restore_size
    assert pipeline.process(colours(64, 36), 0).shape == (72, 128, 3)
    assert pipeline.schema["properties"] == {}


def test_an_upscaler_keeps_its_size_when_told_so(tmp_path: Path) -> None:
    model = models.twice(tmp_path / "m.onnx", OPEN, [1, 3, "h2", "w2"])
    pipeline = loaded(model)
    assert not pipeline.restore_size
    assert pipeline.process(colours(40, 24), 0).shape == (48, 80, 3)
    assert loaded(model, output="source").restore_size


@pytest.mark.parametrize(
    ("settings", "source", "wanted"),
    [
        ({}, (1280, 720), (1280, 720)),
        ({}, (642, 362), (640, 360)),
        ({"multiple": 32}, (642, 362), (640, 352)),
        ({"multiple": 1}, (642, 362), (642, 362)),
        ({"size": [512, 256]}, (642, 362), (512, 256)),
        ({"max_pixels": 640 * 360}, (1280, 720), (640, 360)),
        ({}, (2, 2), (8, 8)),
    ],
)
def test_an_open_size_follows_the_source(
    tmp_path: Path, settings: dict[str, Any], source: tuple[int, int], wanted: tuple[int, int]
) -> None:
    pipeline = loaded(models.identity(tmp_path / "m.onnx", OPEN), **settings)
    assert pipeline.frame_size(*source) == wanted
    assert pipeline.restore_size == ("size" in settings)


def test_mix_is_live(tmp_path: Path) -> None:
    pipeline = loaded(models.invert(tmp_path / "m.onnx", OPEN))
    frame = colours(40, 24)
    pipeline.update({"mix": 0.25})
    mixed = pipeline.process(frame, 0)
    assert near(mixed, (frame * 0.75 + (255 - frame) * 0.25).astype(np.uint8))
    pipeline.update({"mix": 0})
    assert pipeline.process(frame, 0) is frame


def test_the_version_is_that_of_the_file(tmp_path: Path) -> None:
    first = loaded(models.identity(tmp_path / "a.onnx", OPEN))
    again = loaded(models.identity(tmp_path / "b.onnx", OPEN))
    other = loaded(models.invert(tmp_path / "c.onnx", OPEN))
    assert first.version == again.version != other.version


def test_it_runs_on_what_there_is(tmp_path: Path) -> None:
    model = models.identity(tmp_path / "m.onnx", OPEN)
    assert loaded(model, provider="cpu").provider == "CPUExecutionProvider"
    assert loaded(model).provider in ("CPUExecutionProvider", "CUDAExecutionProvider")
    with pytest.raises(ValueError, match="is not here"):
        loaded(model, provider="abacus")


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"range": "0..2"}, "range"),
        ({"range": [1, 1]}, "range"),
        ({"layout": "chwn"}, "layout"),
        ({"order": "grb"}, "order"),
        ({"size": [0, 10]}, "size"),
        ({"output": "both"}, "output"),
        ({"colour": "red"}, "unknown settings: colour"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, settings: dict[str, Any], word: str) -> None:
    model = models.identity(tmp_path / "m.onnx", OPEN)
    with pytest.raises(ValueError, match=word):
        loaded(model, **settings)


def test_models_that_are_not_from_picture_to_picture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image, other"):
        loaded(models.two_inputs(tmp_path / "a.onnx"))
    with pytest.raises(ValueError, match="not that of a picture"):
        loaded(models.identity(tmp_path / "b.onnx", [1, 10]))
    with pytest.raises(ValueError, match="4 pictures at once"):
        loaded(models.identity(tmp_path / "c.onnx", [4, 3, 8, 8]))
    with pytest.raises(ValueError, match="7 channels"):
        loaded(models.identity(tmp_path / "d.onnx", [1, 7, 8, 8]))
    with pytest.raises(ValueError, match="'model' is missing"):
        Onnx().load({})
    with pytest.raises(FileNotFoundError):
        loaded(str(tmp_path / "nothing.onnx"))


def test_values_out_of_range_are_clipped_and_what_is_no_number_is_something() -> None:
    spec = Spec("nchw", True, 3, None, None, np.float32, 0.0, 1.0)
    values = np.array([-5.0, 0.5, 7.0, np.inf], np.float32)
    tensor = np.broadcast_to(values, (1, 3, 1, 4))
    assert to_frame(tensor, spec)[0, :, 0].tolist() == [0, 128, 255, 255]
    assert to_frame(np.full((1, 3, 2, 2), np.nan, np.float32), spec).shape == (2, 2, 3)


@pytest.mark.parametrize("shape", [(1, 3, 2, 2, 1), (2, 3, 4, 4), (1, 5, 4, 4), (7,)])
def test_an_answer_that_is_no_picture_is_an_error(shape: tuple[int, ...]) -> None:
    spec = Spec("nchw", True, 3, None, None, np.float32, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"no picture|are no"):
        to_frame(np.zeros(shape, np.float32), spec)


def test_a_flat_answer_is_a_grey_picture() -> None:
    spec = spec_of([1, 3, "h", "w"], "tensor(float)")
    assert to_frame(np.ones((4, 6), np.float32), spec).shape == (4, 6, 3)
    assert to_tensor(np.zeros((4, 6, 3), np.uint8), spec).shape == (1, 3, 4, 6)
