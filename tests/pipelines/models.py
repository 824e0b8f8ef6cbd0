"""Small ONNX models, made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = Sequence[int | str]


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    shape: Shape,
    answer: Shape,
    *,
    kind: int = TensorProto.FLOAT,
    constants: dict[str, np.ndarray] | None = None,
    more_inputs: Sequence[str] = (),
) -> str:
    graph = helper.make_graph(
        nodes,
        "picture",
        [
            helper.make_tensor_value_info(name, kind, list(shape))
            for name in ("image", *more_inputs)
        ],
        [helper.make_tensor_value_info("result", kind, list(answer))],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return str(path)


def identity(path: Path, shape: Shape, *, kind: int = TensorProto.FLOAT) -> str:
    node = helper.make_node("Identity", ["image"], ["result"])
    return _save(path, [node], shape, shape, kind=kind)


def invert(path: Path, shape: Shape, white: float = 1.0, *, kind: int = TensorProto.FLOAT) -> str:
    """white - image."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    node = helper.make_node("Sub", ["white", "image"], ["result"])
    constants = {"white": np.array(white, dtype)}
    return _save(path, [node], shape, shape, kind=kind, constants=constants)


def invert_bytes(path: Path, shape: Shape) -> str:
    """255 - image, in whole numbers."""
    node = helper.make_node("BitwiseNot", ["image"], ["result"])
    graph = helper.make_graph(
        [node],
        "picture",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, list(shape))],
        [helper.make_tensor_value_info("result", TensorProto.UINT8, list(shape))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.save(model, str(path))
    return str(path)


def twice(path: Path, shape: Shape, answer: Shape) -> str:
    """Each pixel becomes four; NCHW."""
    node = helper.make_node("Resize", ["image", "", "scales"], ["result"], mode="nearest")
    constants = {"scales": np.array([1, 1, 2, 2], np.float32)}
    return _save(path, [node], shape, answer, constants=constants)


def first_channel(path: Path, shape: Shape, answer: Shape, channel: int = 0) -> str:
    """One channel of three as grey; NCHW."""
    node = helper.make_node("Slice", ["image", "start", "end", "axis"], ["result"])
    constants = {
        "start": np.array([channel], np.int64),
        "end": np.array([channel + 1], np.int64),
        "axis": np.array([1], np.int64),
    }
    return _save(path, [node], shape, answer, constants=constants)


def two_inputs(path: Path) -> str:
    shape = [1, 3, 8, 8]
    node = helper.make_node("Add", ["image", "other"], ["result"])
    return _save(path, [node], shape, shape, more_inputs=["other"])


def transposed(path: Path) -> str:
    """NCHW in, NHWC out."""
    node = helper.make_node("Transpose", ["image"], ["result"], perm=[0, 2, 3, 1])
    return _save(path, [node], [1, 3, "h", "w"], [1, "h", "w", 3])
