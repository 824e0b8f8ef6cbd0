"""Which effects there are, in the order people see them, and the schema made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pipelines.effects.colour import (
    ColourPop,
    Duotone,
    Negative,
    NightVision,
    Sepia,
    Spectrum,
    Thermal,
)
from pipelines.effects.drawing import Cartoon, Comic, Letters, Neon, Sketch
from pipelines.effects.effect import Effect
from pipelines.effects.optics import Cinema, Dream, Fisheye, Kaleidoscope, Mirror, TiltShift, Trails
from pipelines.effects.retro import Glitch, Handheld, OldFilm, Pixelate, PopArt, Tape

EFFECTS: Final[tuple[type[Effect], ...]] = (
    Cartoon,
    Neon,
    Comic,
    Sketch,
    Cinema,
    Dream,
    TiltShift,
    ColourPop,
    Duotone,
    Thermal,
    NightVision,
    Letters,
    Glitch,
    Tape,
    OldFilm,
    Sepia,
    PopArt,
    Pixelate,
    Handheld,
    Mirror,
    Kaleidoscope,
    Fisheye,
    Trails,
    Spectrum,
    Negative,
)


def schema_of(effects: Sequence[type[Effect]]) -> dict[str, Any]:
    """JSON Schema of all parameters: flat, each named for its effect."""
    properties: dict[str, Any] = {
        "effect": {
            "type": "string",
            "title": "Effect",
            "enum": ["none", *(effect.name for effect in effects)],
            "x-title": {"none": "No effect"} | {effect.name: effect.title for effect in effects},
            "default": "none",
        },
        "intensity": {
            "type": "number",
            "title": "Intensity",
            "minimum": 0.0,
            "maximum": 1.0,
            "default": 1.0,
        },
    }
    for effect in effects:
        for slider in effect.sliders:
            properties[f"{effect.name}_{slider.name}"] = slider.schema(effect.name)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
