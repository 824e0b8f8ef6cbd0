"""Noise that costs next to nothing: one field, laid on at another place each frame."""

from __future__ import annotations

import numpy as np

from pipelines.contract import Frame
from pipelines.effects.effect import Memo
from pipelines.effects.opencv import cv2

MARGIN = 97


class Grain:
    """
    Args:
        blur: how coarse it is, in pixels.
    """

    def __init__(self, blur: float = 0.0) -> None:
        self._blur = blur
        self._field: Memo[Frame] = Memo()

    def add(self, plane: Frame, amount: float, time: float) -> Frame:
        """A new plane with noise on it, another one each 1/30 s.

        Args:
            amount: 0..1; 1 drowns the picture.
        """
        height, width = plane.shape
        field = self._field.get((width, height), lambda: self._make(width, height))
        step = int(time * 30)
        top, left = step * 61 % MARGIN, step * 37 % MARGIN
        noise = field[top : top + height, left : left + width]
        grained: Frame = cv2.addWeighted(plane, 1.0, noise, amount, -128 * amount)
        return grained

    def _make(self, width: int, height: int) -> Frame:
        rng = np.random.default_rng(7)
        field = rng.normal(128, 42, (height + MARGIN, width + MARGIN)).astype(np.float32)
        if self._blur:
            field = cv2.GaussianBlur(field, (0, 0), self._blur)
            field = (field - 128) * (1 + 2.5 * self._blur) + 128
        return np.clip(field, 0, 255).astype(np.uint8)
