"""What one effect is, and what it may keep between frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from pipelines.contract import Frame, Planes, blank, planes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Slider:
    """One numeric parameter.

    Attributes:
        name: what code calls it; unique in its effect.
        title: what people read.
        minimum: smallest value.
        maximum: largest value.
        default: value until somebody moves it.
        whole: only whole numbers.
    """

    name: str
    title: str
    minimum: float
    maximum: float
    default: float
    whole: bool = False

    def schema(self, effect: str) -> dict[str, Any]:
        """Its JSON Schema."""
        number = int if self.whole else float
        return {
            "type": "integer" if self.whole else "number",
            "title": self.title,
            "minimum": number(self.minimum),
            "maximum": number(self.maximum),
            "default": number(self.default),
            "x-effect": effect,
        }


class Effect(ABC):
    """Makes one yuv420p picture of another.

    Sizes in pixels are meant at a height of 720 lines; ``scale`` takes them elsewhere.

    Attributes:
        name: the value of the ``effect`` parameter, and what its own parameters begin with.
        title: what people read.
        sliders: its parameters.
        moving: it remembers frames, so that a still picture does not show what it does.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    sliders: ClassVar[tuple[Slider, ...]] = ()
    moving: ClassVar[bool] = False

    def reset(self) -> None:  # noqa: B027
        """Forget every picture."""

    @abstractmethod
    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        """
        Args:
            source: read-only planes, both sizes even.
            values: of the sliders, by their names.
            time: seconds on the stream's own clock; what moves by itself goes by it.

        Returns:
            A new frame of the same size.
        """


class Memo(Generic[T]):
    """One value that is made anew only when its key changes."""

    __slots__ = ("_key", "_value")

    def __init__(self) -> None:
        self._key: Hashable = None
        self._value: T | None = None

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        if self._value is None or key != self._key:
            self._value, self._key = make(), key
        return self._value

    def clear(self) -> None:
        self._value = None


def scale(source: Planes) -> float:
    """What a pixel at 720 lines is here."""
    return float(source.y.shape[0]) / 720


def new_frame(source: Planes) -> tuple[Frame, Planes]:
    """A frame of the same size to write into, and its planes."""
    height, width = source.y.shape
    frame = blank(width, height)
    return frame, planes(frame)


def odd(size: float) -> int:
    """The nearest odd whole number from 1 up: what kernels have."""
    return max(1, int(size) | 1)


def table(values: Any) -> Frame:
    """256 numbers as a lookup table."""
    found: Frame = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return found


RAMP = np.arange(256, dtype=np.float32)
"""0 to 255, to make tables of."""


def light(luma: Any) -> Any:
    """Luma 16..235 as 0..1."""
    return np.clip((luma - 16.0) / 219.0, 0.0, 1.0)


def luma(value: Any) -> Any:
    """0..1 as luma 16..235."""
    return 16.0 + 219.0 * value


def chroma_of(hue: Any, saturation: Any) -> tuple[Any, Any]:
    """(u, v) of a hue in degrees (0 is red, as on a colour wheel) at a saturation of 0..1."""
    angle = np.deg2rad(np.asarray(hue) + RED)
    return 128 + 100 * saturation * np.cos(angle), 128 + 100 * saturation * np.sin(angle)


RED = 109.0
"""Degrees between the u axis and red, in the plane of u and v (BT.601)."""
