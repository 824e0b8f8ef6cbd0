"""Pictures as the tensors that models take, and back. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.contract import Frame

Layout = Literal["nchw", "nhwc"]
Tensor = NDArray[Any]

CHANNELS: Final = (1, 3, 4)
RANGES: Final = {"0..1": (0.0, 1.0), "0..255": (0.0, 255.0), "-1..1": (-1.0, 1.0)}
TYPES: Final = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class Spec:
    """How one end of a model looks.

    Attributes:
        layout: where the channels stand.
        batched: there is a dimension for the batch in front.
        channels: 1 (grey), 3 or 4 (with alpha).
        width: None when the model takes any.
        height: None when the model takes any.
        dtype: of its numbers.
        low: what black is.
        high: what white is.
        bgr: blue first.
    """

    layout: Layout
    batched: bool
    channels: int
    width: int | None
    height: int | None
    dtype: Any
    low: float
    high: float
    bgr: bool = False


def spec_of(
    shape: Sequence[object],
    kind: str,
    *,
    layout: str = "auto",
    span: object = "auto",
    bgr: bool = False,
) -> Spec:
    """Read a model's description of one of its ends.

    Args:
        shape: numbers, or names of what is not fixed.
        kind: its type, as the runtime names it.
        layout: ``nchw``, ``nhwc`` or ``auto``.
        span: one of ``RANGES``, a pair of numbers, or ``auto``: 0..255 for whole numbers,
            0..1 for others.

    Raises:
        ValueError: it is no picture, or cannot be told apart.
    """
    if kind not in TYPES:
        raise ValueError(f"{kind} is not a type that pictures have")
    if len(shape) not in (3, 4):
        raise ValueError(f"shape {list(shape)} is not that of a picture")
    batched = len(shape) == 4
    sizes = [size if isinstance(size, int) and size > 0 else None for size in shape]
    if batched and sizes[0] not in (None, 1):
        raise ValueError(f"it takes {sizes[0]} pictures at once, not one")
    sizes = sizes[1:] if batched else sizes
    chosen = _layout(sizes, layout)
    if chosen == "nchw":
        channels, height, width = sizes
    else:
        height, width, channels = sizes
    if channels is not None and channels not in CHANNELS:
        raise ValueError(f"{channels} channels are no picture")
    dtype = TYPES[kind]
    low, high = _range(span, dtype)
    return Spec(chosen, batched, channels or 3, width, height, dtype, low, high, bgr)


def answer_of(shape: Sequence[object], kind: str, asked: Spec, *, span: object = None) -> Spec:
    """How a model's answer looks; what its description leaves open is as what it takes.

    Args:
        span: as for ``spec_of``; None: as what it takes, if that is of the same type.

    Raises:
        ValueError: it is no picture.
    """
    if kind not in TYPES:
        raise ValueError(f"{kind} is not a type that pictures have")
    dtype = TYPES[kind]
    low, high = asked.low, asked.high
    if span is not None or dtype != asked.dtype:
        low, high = _range("auto" if span is None else span, dtype)
    sizes = list(shape)[-3:]
    layout = asked.layout
    if len(sizes) == 3 and (sizes[0] in CHANNELS) != (sizes[2] in CHANNELS):
        layout = "nchw" if sizes[0] in CHANNELS else "nhwc"
    return replace(asked, layout=layout, dtype=dtype, low=low, high=high)


def _layout(sizes: list[int | None], wanted: str) -> Layout:
    if wanted in ("nchw", "nhwc"):
        return "nchw" if wanted == "nchw" else "nhwc"
    if wanted != "auto":
        raise ValueError(f"layout {wanted!r} is not nchw, nhwc or auto")
    if sizes[0] not in CHANNELS and sizes[2] in CHANNELS:
        return "nhwc"
    return "nchw"


def _range(span: object, dtype: Any) -> tuple[float, float]:
    if span == "auto":
        return RANGES["0..255" if np.issubdtype(dtype, np.integer) else "0..1"]
    if isinstance(span, str) and span in RANGES:
        return RANGES[span]
    if isinstance(span, list | tuple) and len(span) == 2:
        low, high = float(span[0]), float(span[1])
        if low != high:
            return low, high
    raise ValueError(f"range {span!r} is not one of {', '.join(RANGES)}, a pair or auto")


def to_tensor(frame: Frame, spec: Spec) -> Tensor:
    """A picture, (height, width, 3) RGB, as the model takes it."""
    colours: Tensor = frame[..., ::-1] if spec.bgr else frame
    if spec.channels == 1:
        colours = (frame @ LUMA)[..., None]
    elif spec.channels == 4:
        alpha = np.full((*frame.shape[:2], 1), 255, np.uint8)
        colours = np.concatenate([colours, alpha], axis=2)
    if spec.layout == "nchw":
        colours = colours.transpose(2, 0, 1)
    if spec.dtype == np.uint8:
        tensor: Tensor = np.ascontiguousarray(colours.astype(np.uint8, copy=False))
    else:
        tensor = np.empty(colours.shape, np.float32)
        np.multiply(colours, (spec.high - spec.low) / 255, out=tensor, casting="unsafe")
        if spec.low:
            tensor += spec.low
        tensor = tensor.astype(spec.dtype, copy=False)
    return tensor[None] if spec.batched else tensor


def to_frame(tensor: Tensor, spec: Spec) -> Frame:
    """What a model gave as a picture, (height, width, 3) RGB.

    Raises:
        ValueError: it is no picture.
    """
    values = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
    if values.ndim == 2:
        values = values[None] if spec.layout == "nchw" else values[..., None]
    if values.ndim != 3:
        raise ValueError(f"the model gave shape {tensor.shape}, which is no picture")
    if spec.layout == "nchw":
        values = values.transpose(1, 2, 0)
    if values.shape[2] not in CHANNELS:
        raise ValueError(f"the model gave {values.shape[2]} channels, which are no picture")
    if values.dtype != np.uint8:
        scaled = (values.astype(np.float32) - spec.low) * (255 / (spec.high - spec.low))
        with np.errstate(invalid="ignore"):
            values = np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled).astype(np.uint8)
    colours = values[..., :3]
    if values.shape[2] == 1:
        colours = np.repeat(values, 3, axis=2)
    elif spec.bgr:
        colours = colours[..., ::-1]
    frame: Frame = np.ascontiguousarray(colours)
    return frame
