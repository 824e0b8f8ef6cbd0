"""Any image-to-image ONNX model: what it takes is read off the model and the settings.

Settings:

``model``
    path of the file.
``layout``
    ``nchw``, ``nhwc``, or ``auto`` (default): told by where 1, 3 or 4 channels stand.
``range``, ``output_range``
    ``0..1``, ``0..255``, ``-1..1``, a pair of numbers, or ``auto`` (default): 0..255 for
    whole numbers, 0..1 for others; the output is like the input unless it says otherwise.
``order``
    ``rgb`` (default) or ``bgr``.
``size``
    ``[width, height]`` for a model that takes any; default: that of the source.
``max_pixels``
    a bound for it; larger sources are scaled down.
``multiple``
    sizes are multiples of this; default 8, which suits most networks.
``output``
    ``source``: results are scaled back to the source's size; ``model``: they stay as the
    model made them. Default: ``source`` when the size of the input is fixed.
``provider``
    ``auto`` (default): CUDA when this machine has it; ``cpu``; ``cuda``.
``threads``
    of the CPU; default 1, since every slot of a worker is a process of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

from pipelines.contract import NO_PARAMETERS, Frame, Pipeline
from pipelines.onnx.tensor import Spec, answer_of, spec_of, to_frame, to_tensor

SETTINGS: Final = frozenset(
    (
        "model",
        "layout",
        "range",
        "output_range",
        "order",
        "size",
        "max_pixels",
        "multiple",
        "output",
        "provider",
        "threads",
    )
)
MIX: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "mix": {
            "type": "number",
            "title": "Mix with the source",
            "minimum": 0.0,
            "maximum": 1.0,
            "default": 1.0,
        }
    },
    "additionalProperties": False,
}
PROVIDERS: Final = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
PROBE: Final = 64
"""Width and height of the first run of a model that takes any size."""


class Onnx(Pipeline):
    """
    Attributes:
        provider: what the model runs on.
    """

    format = "rgb24"
    provider: str

    def load(self, settings: Mapping[str, Any]) -> None:
        """Read the model, and run it once.

        Raises:
            ValueError: a setting is wrong, or the model does not make pictures of pictures.
            OSError: there is no such file.
        """
        unknown = set(settings) - SETTINGS
        if unknown:
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        if "model" not in settings:
            raise ValueError("the setting 'model' is missing: the path of an ONNX file")
        data = Path(settings["model"]).read_bytes()
        self.version = hashlib.sha256(data).hexdigest()[:12]
        self._session = _session(data, settings)
        self.provider = self._session.get_providers()[0]
        self._input, self._output = _ends(self._session, settings)
        self._input_name = self._session.get_inputs()[0].name
        self._multiple = max(1, int(settings.get("multiple", 8)))
        self._max_pixels = int(settings.get("max_pixels", 0))
        self._size = _size(settings.get("size"))
        fixed = self._size is not None or None not in (self._input.width, self._input.height)
        output = settings.get("output", "source" if fixed else "model")
        if output not in ("source", "model"):
            raise ValueError(f"output {output!r} is not source or model")
        self.restore_size = output == "source"
        self._mix = 1.0
        width, height = self.frame_size(PROBE, PROBE)
        result = self.process(np.full((height, width, 3), 128, np.uint8), 0)
        # Only pictures of one size can be mixed.
        self.schema = MIX if result.shape == (height, width, 3) else NO_PARAMETERS

    def update(self, params: Mapping[str, Any]) -> None:
        self._mix = float(params.get("mix", 1.0))

    def frame_size(self, width: int, height: int) -> tuple[int, int]:
        if self._size is not None:
            width, height = self._size
        if self._max_pixels and width * height > self._max_pixels:
            shrink = (self._max_pixels / (width * height)) ** 0.5
            width, height = int(width * shrink), int(height * shrink)
        return (
            self._input.width or self._fitting(width),
            self._input.height or self._fitting(height),
        )

    def process(self, frame: Frame, pts: int) -> Frame:
        if self._mix <= 0:
            return frame
        tensor = to_tensor(frame, self._input)
        result = to_frame(self._session.run(None, {self._input_name: tensor})[0], self._output)
        if self._mix < 1 and result.shape == frame.shape:
            mixed = result * np.float32(self._mix) + frame * np.float32(1 - self._mix)
            result = mixed.astype(np.uint8)
        return result

    def _fitting(self, size: int) -> int:
        return max(self._multiple, round(size / self._multiple) * self._multiple)


def _session(data: bytes, settings: Mapping[str, Any]) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(settings.get("threads", 1))
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = settings.get("provider", "auto")
    available = onnxruntime.get_available_providers()
    if wanted == "auto":
        names = [name for name in PROVIDERS.values() if name in available]
    elif wanted in PROVIDERS and PROVIDERS[wanted] in available:
        names = [PROVIDERS[wanted]]
    else:
        raise ValueError(f"provider {wanted!r} is not here; there are {', '.join(available)}")
    return onnxruntime.InferenceSession(data, options, providers=names)


def _ends(session: Any, settings: Mapping[str, Any]) -> tuple[Spec, Spec]:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise ValueError(f"the model takes {names}; one picture is what it should take")
    order = settings.get("order", "rgb")
    if order not in ("rgb", "bgr"):
        raise ValueError(f"order {order!r} is not rgb or bgr")
    taken = spec_of(
        inputs[0].shape,
        inputs[0].type,
        layout=settings.get("layout", "auto"),
        span=settings.get("range", "auto"),
        bgr=order == "bgr",
    )
    span = settings.get("output_range")
    return taken, answer_of(outputs[0].shape, outputs[0].type, taken, span=span)


def _size(setting: object) -> tuple[int, int] | None:
    if setting is None:
        return None
    if isinstance(setting, list | tuple) and len(setting) == 2:
        width, height = int(setting[0]), int(setting[1])
        if width > 0 and height > 0:
            return width, height
    raise ValueError(f"size {setting!r} is not [width, height]")
