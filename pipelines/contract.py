"""What a pipeline is: a class with a schema, a way to load, and a way to change a picture.

A pipeline is named in the worker's settings as ``module:Class``; the class is imported
and one instance made in each of the worker's warm child processes. All calls to an
instance come from one thread, one after the other, in this order::

    load(settings)                          once, when the process starts
      reset()                               when a job begins
      update(params)                        then, and at each change of parameters
      process(frame, pts)                   for the newest picture, again and again
    close()                                 once, when the process ends

This file is all that a pipeline needs to import, and it needs nothing but NumPy.
"""

# The empty methods are what most pipelines want.
# ruff: noqa: B027

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
"""One picture. ``rgb24``: shape (height, width, 3). ``yuv420p``: see ``planes``."""

NO_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {},
    "additionalProperties": False,
}


class Pipeline(ABC):
    """Base of every pipeline.

    Attributes:
        format: the shape of the frames that ``process`` is given and gives back.
        version: changes whenever the schema or the picture does; people see it.
        schema: JSON Schema (2020-12) of the parameters, an object with defaults.
            ``title``, ``minimum``, ``maximum`` and ``default`` make sliders;
            ``x-title`` names the values of an enum; ``x-effect`` names the value of
            ``effect`` that a parameter belongs to.
        untouched: the encoded segments go back as they came; ``process`` is never
            called and no picture is decoded.
        restore_size: results are scaled back to the size of the source.
    """

    format: ClassVar[Literal["rgb24", "yuv420p"]] = "rgb24"
    version: str = "1"
    schema: Mapping[str, Any] = NO_PARAMETERS
    untouched: ClassVar[bool] = False
    restore_size: bool = False

    def load(self, settings: Mapping[str, Any]) -> None:
        """Do everything slow: read models, warm them up with a first run.

        Args:
            settings: this pipeline's ``settings`` from the worker's configuration.

        Raises:
            Exception: the model cannot be served; the worker reports the message.
        """

    def reset(self) -> None:
        """Forget everything of the job before: another person's pictures, above all."""

    def update(self, params: Mapping[str, Any]) -> None:
        """Take new parameters; they hold from the next frame on.

        Args:
            params: valid by ``schema``, every default filled in.

        Raises:
            Exception: refused with this message; the old ones have to stay in force.
        """

    def frame_size(self, width: int, height: int) -> tuple[int, int]:
        """The (width, height) in which frames of such a source are wanted.

        ``yuv420p`` has even ones only; so are those of the source.
        """
        return width, height

    @abstractmethod
    def process(self, frame: Frame, pts: int) -> Frame:
        """Change one picture.

        Args:
            frame: the newest picture, read-only. It may be kept.
            pts: its presentation time in 1/90000 s.

        Returns:
            A picture in the same ``format``, in any size, or the very same object when
            there is nothing to change (which then costs nothing).

        Raises:
            Exception: the frame is not sent; the stream goes on with the next one.
        """

    def close(self) -> None:
        """Give back what ``load`` took."""


class Planes(NamedTuple):
    """Views of the three planes of a ``yuv420p`` frame.

    ``y`` is (height, width); ``u`` and ``v`` are (height / 2, width / 2). Limited range:
    black is 16 and white 235 in ``y``; grey is 128 in ``u`` and ``v``, which span 16..240.
    """

    y: Frame
    u: Frame
    v: Frame


def planes(frame: Frame) -> Planes:
    """The planes of a ``yuv420p`` frame: a contiguous array of shape (height * 3 / 2, width)."""
    rows, width = frame.shape
    height = rows * 2 // 3
    flat = frame.reshape(-1)
    luma, chroma = height * width, height * width // 4
    half = (height // 2, width // 2)
    return Planes(
        flat[:luma].reshape(height, width),
        flat[luma : luma + chroma].reshape(half),
        flat[luma + chroma :].reshape(half),
    )


def blank(width: int, height: int) -> Frame:
    """A new ``yuv420p`` frame to write into, its content undefined; both sizes even."""
    return np.empty((height * 3 // 2, width), np.uint8)
