"""Pipelines by their names, behind a fence: whatever they raise comes out as one error.

The worker never imports a pipeline, or anything of ``pipelines``; it knows their shape.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, Protocol, TypeVar

import numpy as np

from relay.errors import RelayError
from relay.worker.codec import MAX_PIXELS, Format, Frame, Size
from relay.worker.parameters import MAX_REASON, Parameters

P = ParamSpec("P")
R = TypeVar("R")

FORMATS: Final = ("rgb24", "yuv420p")


class PipelineFailed(RelayError):
    """A pipeline could not be loaded, or raised; the message is its own reason."""

    default_code = "pipeline_failed"


class Pipeline(Protocol):
    """The shape of ``pipelines.contract.Pipeline``."""

    @property
    def format(self) -> Format: ...
    @property
    def version(self) -> str: ...
    @property
    def schema(self) -> Mapping[str, Any]: ...
    @property
    def untouched(self) -> bool: ...
    @property
    def restore_size(self) -> bool: ...
    def load(self, settings: Mapping[str, Any]) -> None: ...
    def reset(self) -> None: ...
    def update(self, params: Mapping[str, Any]) -> None: ...
    def frame_size(self, width: int, height: int) -> tuple[int, int]: ...
    def process(self, frame: Frame, pts: int) -> Frame: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A pipeline as the configuration names it.

    Attributes:
        model_id: what it is offered as.
        entry: ``module:Class``.
        settings: handed to its ``load``.
    """

    model_id: str
    entry: str
    settings: Mapping[str, Any]


def fenced(where: str, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call into a stranger's code.

    Raises:
        PipelineFailed: it raised; SystemExit and a failing import too.
    """
    try:
        return call(*args, **kwargs)
    except (Exception, SystemExit) as error:
        reason = str(error) or "no reason given"
        raise PipelineFailed(f"{where}: {type(error).__name__}: {reason}"[:MAX_REASON]) from error


class LoadedPipeline:
    """One pipeline instance; every call is checked on the way in and out.

    Raises:
        PipelineFailed: it cannot be imported, made or loaded, or is not of the shape.
    """

    def __init__(self, entry: Entry) -> None:
        self.model_id = entry.model_id
        module, _, name = entry.entry.partition(":")
        if not module or not name:
            raise PipelineFailed(f"{entry.entry!r} is not module:Class")
        made = fenced("import", lambda: getattr(importlib.import_module(module), name)())
        missing = [each for each in _members() if not hasattr(made, each)]
        if missing:
            raise PipelineFailed(f"{entry.entry} has no {', '.join(missing)}")
        self._pipeline: Pipeline = made
        fenced("load", made.load, entry.settings)
        if made.format not in FORMATS:
            raise PipelineFailed(f"{entry.entry}: format {made.format!r} is not of {FORMATS}")
        self.format: Format = made.format
        self.version = str(made.version)
        self.schema: dict[str, Any] = dict(made.schema)
        self.untouched = bool(made.untouched)
        self.parameters = Parameters(self.schema)

    def begin(self, params: Mapping[str, Any]) -> None:
        """A new job, with parameters that ``parameters.merged`` gave.

        Raises:
            PipelineFailed
        """
        self.reset()
        self.update(params)

    def reset(self) -> None:
        """Forget the pictures of the job before.

        Raises:
            PipelineFailed
        """
        fenced("reset", self._pipeline.reset)

    def update(self, params: Mapping[str, Any]) -> None:
        """
        Raises:
            PipelineFailed
        """
        fenced("update", self._pipeline.update, dict(params))

    def wanted_size(self, source: Size) -> Size:
        """
        Raises:
            PipelineFailed
        """
        width, height = fenced("frame_size", self._pipeline.frame_size, *source)
        odd = self.format == "yuv420p" and (width % 2 or height % 2)
        if width < 2 or height < 2 or odd or width * height > MAX_PIXELS:
            raise PipelineFailed(f"frame_size: {width}x{height} is not possible")
        return width, height

    def result_size(self, source: Size) -> Size | None:
        """The size that results are scaled to, None to leave them."""
        return source if self._pipeline.restore_size else None

    def process(self, frame: Frame, pts: int) -> Frame:
        """
        Raises:
            PipelineFailed: it raised, or gave back something that is not a picture.
        """
        result: Frame = fenced("process", self._pipeline.process, frame, pts)
        if result is not frame:
            _check(result, self.format)
        return result

    def close(self) -> None:
        """
        Raises:
            PipelineFailed
        """
        fenced("close", self._pipeline.close)


def _members() -> list[str]:
    return [name for name in vars(Pipeline) if not name.startswith("_")]


def _check(result: object, wanted: Format) -> None:
    if not isinstance(result, np.ndarray) or result.dtype != np.uint8:
        raise PipelineFailed(f"process gave {type(result).__name__}, not an array of uint8")
    shape = result.shape
    fits = (
        len(shape) == 3 and shape[2] == 3 and shape[0] > 1 and shape[1] > 1
        if wanted == "rgb24"
        else len(shape) == 2 and shape[0] % 3 == 0 and shape[1] % 2 == 0 and shape[1] > 0
        and shape[0] > 0
    )  # fmt: skip
    if not fits or shape[0] * shape[1] > MAX_PIXELS * 3 // 2:
        raise PipelineFailed(f"process gave shape {shape}, which is no {wanted} picture")
