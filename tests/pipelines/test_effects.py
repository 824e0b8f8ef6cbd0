from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import jsonschema
import numpy as np
import pytest

from pipelines.contract import Frame, planes
from pipelines.effects import EFFECTS, Effects, preview, sample_picture
from pipelines.effects.effect import Effect
from pipelines.effects.opencv import cv2

NAMES = [effect.name for effect in EFFECTS]


@cache
def frame_of(width: int, height: int) -> Frame:
    picture = sample_picture(width, height)
    frame: Frame = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
    frame.flags.writeable = False
    return frame


def loaded(**params: Any) -> Effects:
    pipeline = Effects()
    pipeline.load({})
    pipeline.update(defaults() | params)
    return pipeline


def defaults() -> dict[str, Any]:
    return {name: item["default"] for name, item in Effects.schema["properties"].items()}


def difference(left: Frame, right: Frame) -> float:
    return float(np.abs(left.astype(int) - right.astype(int)).mean())


def test_there_are_enough_effects_each_with_a_name_and_a_title() -> None:
    assert len(NAMES) >= 12
    assert len(set(NAMES)) == len(NAMES)
    assert all(effect.title for effect in EFFECTS)


def test_the_schema_makes_sliders() -> None:
    schema = Effects.schema
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(defaults(), schema)
    effect = schema["properties"]["effect"]
    assert effect["enum"] == ["none", *NAMES]
    assert set(effect["x-title"]) == set(effect["enum"])
    for name, item in schema["properties"].items():
        assert item["title"]
        if name == "effect":
            continue
        assert item["type"] in ("number", "integer")
        assert item["minimum"] <= item["default"] <= item["maximum"]
        assert item["minimum"] < item["maximum"]
        if name != "intensity":
            assert item["x-effect"] in NAMES
            assert name.startswith(item["x-effect"] + "_")


def test_none_and_no_intensity_cost_nothing() -> None:
    frame = frame_of(64, 36)
    assert loaded().process(frame, 0) is frame
    assert loaded(effect="neon", intensity=0).process(frame, 0) is frame


@pytest.mark.parametrize("name", NAMES)
def test_an_effect_shows_and_leaves_its_source_alone(name: str) -> None:
    frame = frame_of(320, 180)
    before = frame.copy()
    pipeline = loaded(effect=name)
    for step in range(3):
        moved = np.roll(frame, step * 16, axis=1)
        moved.flags.writeable = False
        result = pipeline.process(moved, 90_000 + step * 3000)
        assert result.shape == frame.shape
        assert result.dtype == np.uint8
    assert difference(result, moved) > 1
    np.testing.assert_array_equal(frame, before)


@pytest.mark.parametrize("name", NAMES)
def test_intensity_mixes_the_effect_with_the_source(name: str) -> None:
    frame = frame_of(320, 180)
    whole = loaded(effect=name).process(frame, 90_000)
    half = loaded(effect=name, intensity=0.5).process(frame, 90_000)
    if difference(whole, frame) > 1:  # what needs a moving picture shows nothing yet
        assert difference(half, frame) < difference(whole, frame)


@pytest.mark.parametrize("effect", EFFECTS, ids=NAMES)
def test_every_slider_may_be_at_either_end(effect: type[Effect]) -> None:
    frame = frame_of(96, 54)
    for ends in itertools.product(*[(each.minimum, each.maximum) for each in effect.sliders]):
        values = dict(zip((each.name for each in effect.sliders), ends, strict=True))
        made = effect()
        for time in (0.0, 0.5, 86_000.9):
            assert made.apply(planes(frame), values, time).shape == frame.shape


@pytest.mark.parametrize("effect", EFFECTS, ids=NAMES)
def test_every_slider_does_something(effect: type[Effect]) -> None:
    frame = frame_of(320, 180)
    moved = np.roll(frame, 24, axis=1)
    defaults = {each.name: each.default for each in effect.sliders}
    for slider in effect.sliders:
        shown = []
        middle = (slider.minimum + slider.maximum) // 2 if slider.whole else slider.default
        for value in (slider.minimum, middle, slider.maximum):
            made = effect()
            made.apply(planes(frame), defaults | {slider.name: value}, 7.3)
            shown.append(made.apply(planes(moved), defaults | {slider.name: value}, 7.37))
        # The ends of a hue are the same colour.
        seen = max(difference(shown[0], shown[1]), difference(shown[0], shown[2]))
        assert seen > 0.2, slider.name


@pytest.mark.parametrize("effect", EFFECTS, ids=NAMES)
@pytest.mark.parametrize(
    "size", [(2, 2), (4, 2), (2, 64), (16, 16), (34, 18), (90, 160), (642, 362)]
)
def test_every_size_is_served_and_a_change_of_size_too(
    effect: type[Effect], size: tuple[int, int]
) -> None:
    values = {each.name: each.default for each in effect.sliders}
    made = effect()
    made.apply(planes(frame_of(64, 36)), values, 1.0)
    frame = frame_of(*size)
    for time in (2.0, 2.1):
        assert made.apply(planes(frame), values, time).shape == frame.shape


@pytest.mark.parametrize("effect", EFFECTS, ids=NAMES)
def test_every_pixel_is_written(effect: type[Effect], monkeypatch: pytest.MonkeyPatch) -> None:
    """A result must not depend on what its memory held before."""
    frame = frame_of(320, 180)
    values = {each.name: each.default for each in effect.sliders}
    shown = []
    for filling in (0, 255):

        def dirty(width: int, height: int, value: int = filling) -> Frame:
            return np.full((height * 3 // 2, width), value, np.uint8)

        for module in ("effect", "optics"):
            monkeypatch.setattr(f"pipelines.effects.{module}.blank", dirty)
        made = effect()
        shown.append([made.apply(planes(frame), values, time) for time in (3.0, 3.1)])
    np.testing.assert_array_equal(shown[0], shown[1])


@pytest.mark.parametrize("effect", EFFECTS, ids=NAMES)
def test_pictures_of_another_job_are_forgotten(effect: type[Effect]) -> None:
    values = {each.name: each.default for each in effect.sliders}
    frame = frame_of(320, 180)
    used, fresh = effect(), effect()
    white = np.full_like(frame, 235)
    used.apply(planes(white), values, 1.0)
    used.reset()
    np.testing.assert_array_equal(
        used.apply(planes(frame), values, 2.0), fresh.apply(planes(frame), values, 2.0)
    )


def test_trails_follow_what_moves() -> None:
    made = next(effect for effect in EFFECTS if effect.name == "trails")()
    black = np.full((54, 64), 128, np.uint8)
    black[:36] = 16
    spot = black.copy()
    spot[:36, :16] = 235
    made.apply(planes(spot), {"length": 0.9}, 0.0)
    result = planes(made.apply(planes(black), {"length": 0.9}, 0.1))
    assert result.y[:, :16].mean() > 190
    assert result.y[:, 20:].mean() < 20


def test_one_colour_keeps_red_and_greys_blue() -> None:
    image = np.zeros((36, 64, 3), np.uint8)
    image[:, :32] = (220, 30, 30)
    image[:, 32:] = (30, 30, 220)
    shown = preview("pop", image)
    left, right = shown[:, 4:28].reshape(-1, 3), shown[:, 36:60].reshape(-1, 3)
    assert left[:, 0].mean() > left[:, 2].mean() + 80
    assert np.ptp(right.mean(axis=0)) < 25


@pytest.mark.parametrize("name", ["none", *NAMES])
def test_a_preview_is_a_picture_of_the_same_size(name: str) -> None:
    image = sample_picture(240, 135)
    shown = preview(name, image)
    assert shown.shape == (134, 240, 3)
    if name == "none":
        assert difference(shown, image[:134]) < 6
    else:
        assert difference(shown, image[:134]) > 2


def test_no_preview_of_what_there_is_not() -> None:
    with pytest.raises(KeyError):
        preview("unheard of", sample_picture(64, 36))
