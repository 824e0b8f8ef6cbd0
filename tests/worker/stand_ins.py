"""Pipelines that behave as the tests need them to."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.contract import Frame, Pipeline

PAINT_SCHEMA = {
    "type": "object",
    "properties": {
        "luma": {"type": "integer", "minimum": 16, "maximum": 235, "default": 50},
        "other": {"type": "number", "default": 0},
    },
    "additionalProperties": False,
}
MOODS = ["well", "raise", "odd", "hang", "die", "gate", "none", "exit"]
MOODY_SCHEMA = {"type": "object", "properties": {"mood": {"enum": MOODS, "default": "well"}}}
NO_OBJECT = {"type": "array"}
NOTHING = {"type": "object"}


class Paint(Pipeline):
    """Paints the whole luma with one value, which is a parameter."""

    format = "yuv420p"
    version = "paint-1"
    schema = PAINT_SCHEMA

    def update(self, params: Mapping[str, Any]) -> None:
        if params["luma"] == 66:
            raise ValueError("66 is not a colour")
        self.luma = params["luma"]

    def process(self, frame: Frame, pts: int) -> Frame:
        painted = np.full_like(frame, 128)
        painted[: frame.shape[0] * 2 // 3] = self.luma
        return painted


class Moody(Pipeline):
    """Raises, hangs, dies or waits for a gate on request."""

    format = "yuv420p"
    schema = MOODY_SCHEMA
    entered = threading.Semaphore(0)
    gate = threading.Semaphore(0)

    def update(self, params: Mapping[str, Any]) -> None:
        self.mood = params["mood"]
        self.count = 0

    def process(self, frame: Frame, pts: int) -> Frame:
        self.count += 1
        match self.mood:
            case "raise":
                raise RuntimeError("not today")
            case "odd" if self.count % 2:
                raise RuntimeError("every other day")
            case "hang":
                time.sleep(3600)
            case "gate":
                self.entered.release()
                self.gate.acquire()
            case "die":
                os._exit(7)
            case "exit":
                raise SystemExit(3)
            case "none":
                return None  # type: ignore[return-value]
        return frame


class Halved(Pipeline):
    """Wants rgb frames of half the size and gives them back so."""

    def frame_size(self, width: int, height: int) -> tuple[int, int]:
        return width // 4 * 2, height // 4 * 2

    def process(self, frame: Frame, pts: int) -> Frame:
        return 255 - frame


class Restored(Halved):
    restore_size = True


class BrokenLoad(Pipeline):
    def load(self, settings: Mapping[str, Any]) -> None:
        raise RuntimeError(f"no model at {settings.get('path')}")

    def process(self, frame: Frame, pts: int) -> Frame:
        return frame


class DiesLoading(BrokenLoad):
    def load(self, settings: Mapping[str, Any]) -> None:
        os._exit(5)


class BadSchema(BrokenLoad):
    schema = NO_OBJECT

    def load(self, settings: Mapping[str, Any]) -> None:
        pass


class BadFormat(BadSchema):
    schema = NOTHING
    format = "gray"  # type: ignore[assignment]


class NotAPipeline:
    pass
