"""Shapes to multiply or blend with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.contract import Frame


def grid(width: int, height: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """x and y of each pixel's middle, -1..1 over the height, 0 in the middle."""
    across = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / (height / 2)
    down = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / (height / 2)
    x, y = np.meshgrid(across, down)
    return x, y


def vignette(width: int, height: int, strength: float) -> Frame:
    """255 in the middle, falling towards the corners."""
    x, y = grid(width, height)
    aspect = width / height
    distance = np.sqrt((x / aspect) ** 2 + y**2) / np.sqrt(2)
    fall = np.clip((distance - 0.35) / 0.65, 0, 1)
    shade = 1 - strength * fall * fall * (3 - 2 * fall)
    result: Frame = (255 * shade).astype(np.uint8)
    return result
