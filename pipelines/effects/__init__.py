"""Effects for streamers: one pipeline, one ``effect`` parameter, and sliders for each.

All of them work on yuv420p planes, which is what the codecs speak: nothing is converted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from pipelines.contract import Frame, Pipeline, planes
from pipelines.effects.catalogue import EFFECTS, schema_of
from pipelines.effects.effect import Effect
from pipelines.effects.opencv import cv2
from pipelines.effects.picture import sample_picture

__all__ = ["EFFECTS", "Effects", "preview", "sample_picture"]

CLOCK: Final = 90_000
DAY: Final = CLOCK * 86_400


class Effects(Pipeline):
    """The effect that ``effect`` names; ``intensity`` mixes it with the source."""

    format = "yuv420p"
    version = "1"
    schema = schema_of(EFFECTS)

    def load(self, settings: Mapping[str, Any]) -> None:
        """Make every effect once, and run it: first runs are slow."""
        self._effects: dict[str, Effect] = {kind.name: kind() for kind in EFFECTS}
        self._effect: Effect | None = None
        self.update({name: item["default"] for name, item in self.schema["properties"].items()})
        grey = np.full((36, 32), 128, np.uint8)
        for effect in self._effects.values():
            self._effect, self._values = effect, values_of(effect, self._params)
            self.process(grey, 0)
        self.reset()
        self.update(self._params)

    def reset(self) -> None:
        for effect in self._effects.values():
            effect.reset()

    def update(self, params: Mapping[str, Any]) -> None:
        self._params = dict(params)
        self._intensity = float(params["intensity"])
        self._effect = self._effects.get(params["effect"])
        self._values = {} if self._effect is None else values_of(self._effect, params)

    def process(self, frame: Frame, pts: int) -> Frame:
        effect = self._effect
        if effect is None or self._intensity <= 0:
            return frame
        result = effect.apply(planes(frame), self._values, pts % DAY / CLOCK)
        if self._intensity < 1:  # a new array: the effect may remember its own
            result = cv2.addWeighted(result, self._intensity, frame, 1 - self._intensity, 0)
        return result


def values_of(effect: Effect, params: Mapping[str, Any]) -> dict[str, float]:
    """An effect's own parameters, by the names it knows them by."""
    return {each.name: params[f"{effect.name}_{each.name}"] for each in effect.sliders}


def preview(effect: str, image: Frame) -> Frame:
    """How a picture looks with an effect at its defaults.

    Args:
        effect: a value of the ``effect`` parameter.
        image: (height, width, 3), RGB; an odd line or column is left out.

    Returns:
        The same, RGB, even sizes.

    Raises:
        KeyError: there is no such effect.
    """
    height, width = image.shape[0] & ~1, image.shape[1] & ~1
    frame = cv2.cvtColor(np.ascontiguousarray(image[:height, :width]), cv2.COLOR_RGB2YUV_I420)
    if effect != "none":
        made = {kind.name: kind for kind in EFFECTS}[effect]()
        defaults = {slider.name: slider.default for slider in made.sliders}
        for step in range(6 if made.moving else 1):
            seen = np.roll(frame, (5 - step) * width // 40, axis=1) if made.moving else frame
            result = made.apply(planes(seen), defaults, 7.0 + step / 30)
        frame = result
    shown: Frame = cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_I420)
    return shown
