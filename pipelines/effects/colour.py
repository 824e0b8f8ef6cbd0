"""Effects that change what colour things have."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipelines.contract import Frame, Planes
from pipelines.effects.effect import (
    RAMP,
    Effect,
    Memo,
    Slider,
    chroma_of,
    light,
    luma,
    new_frame,
    table,
)
from pipelines.effects.grain import Grain
from pipelines.effects.mask import vignette
from pipelines.effects.opencv import cv2

Tables = tuple[Frame, Frame, Frame]


def half(plane: Frame) -> Frame:
    """Luma at the size of chroma."""
    height, width = plane.shape
    small: Frame = cv2.resize(plane, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return small


def through(source: Planes, tables: Tables) -> Frame:
    """Luma decides everything: one table for each plane."""
    frame, out = new_frame(source)
    small = half(source.y)
    cv2.LUT(source.y, tables[0], dst=out.y)
    cv2.LUT(small, tables[1], dst=out.u)
    cv2.LUT(small, tables[2], dst=out.v)
    return frame


def gradient(stops: list[tuple[float, float, float, float]]) -> Tables:
    """Tables of a colour gradient.

    Args:
        stops: (position, red, green, blue), each 0..1.
    """
    at = [stop[0] for stop in stops]
    position = light(RAMP)
    red, green, blue = (np.interp(position, at, [stop[n] for stop in stops]) for n in (1, 2, 3))
    bright = 0.299 * red + 0.587 * green + 0.114 * blue
    return (
        table(luma(bright)),
        table(128 + 224 * 0.564 * (blue - bright)),
        table(128 + 224 * 0.713 * (red - bright)),
    )


class Sepia(Effect):
    name = "sepia"
    title = "Sepia"
    sliders = (
        Slider("strength", "Tone", 0, 1, 0.8),
        Slider("fade", "Fade", 0, 1, 0.25),
    )

    def __init__(self) -> None:
        self._tables: Memo[Tables] = Memo()

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        strength, fade = values["strength"], values["fade"]

        def make() -> Tables:
            bright = light(RAMP) * (1 - 0.35 * fade) + 0.22 * fade
            u, v = chroma_of(32, 0.32 * strength * np.sqrt(bright * (1.4 - bright)))
            return table(luma(bright)), table(u), table(v)

        return through(source, self._tables.get((strength, fade), make))


class Duotone(Effect):
    name = "duotone"
    title = "Duotone"
    sliders = (
        Slider("shadows", "Hue of shadows", 0, 360, 262, whole=True),
        Slider("lights", "Hue of lights", 0, 360, 28, whole=True),
        Slider("contrast", "Contrast", 0, 1, 0.45),
    )

    def __init__(self) -> None:
        self._tables: Memo[Tables] = Memo()

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        shadows, lights, contrast = values["shadows"], values["lights"], values["contrast"]

        def make() -> Tables:
            bright = light(RAMP)
            curve = bright + contrast * (bright * bright * (3 - 2 * bright) - bright)
            dark_u, dark_v = chroma_of(shadows, 0.85)
            light_u, light_v = chroma_of(lights, 0.75)
            mix = np.clip(curve * 1.2 - 0.1, 0, 1)
            colour = 1 - np.abs(curve - 0.5) ** 3 * 4
            return (
                table(luma(0.08 + 0.9 * curve)),
                table(128 + colour * ((dark_u - 128) * (1 - mix) + (light_u - 128) * mix)),
                table(128 + colour * ((dark_v - 128) * (1 - mix) + (light_v - 128) * mix)),
            )

        return through(source, self._tables.get((shadows, lights, contrast), make))


PALETTES = (
    [  # iron
        (0.0, 0.0, 0.0, 0.08),
        (0.2, 0.2, 0.0, 0.5),
        (0.42, 0.72, 0.05, 0.5),
        (0.65, 0.97, 0.4, 0.05),
        (0.85, 1.0, 0.85, 0.2),
        (1.0, 1.0, 1.0, 0.9),
    ],
    [  # rainbow
        (0.0, 0.05, 0.0, 0.3),
        (0.22, 0.0, 0.25, 0.95),
        (0.45, 0.0, 0.85, 0.55),
        (0.65, 0.9, 0.9, 0.1),
        (0.85, 1.0, 0.25, 0.05),
        (1.0, 1.0, 0.9, 0.9),
    ],
    [  # arctic
        (0.0, 0.02, 0.02, 0.2),
        (0.35, 0.05, 0.35, 0.75),
        (0.6, 0.35, 0.85, 0.95),
        (0.78, 0.95, 0.95, 0.85),
        (1.0, 1.0, 0.75, 0.2),
    ],
)


class Thermal(Effect):
    name = "thermal"
    title = "Thermal camera"
    sliders = (
        Slider("palette", "Palette", 1, len(PALETTES), 1, whole=True),
        Slider("contrast", "Contrast", 0.5, 2, 1.15),
        Slider("softness", "Softness", 0, 1, 0.4),
    )

    def __init__(self) -> None:
        self._tables: Memo[Tables] = Memo()

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        palette, contrast = int(values["palette"]), values["contrast"]

        def make() -> Tables:
            curve = table(luma(np.clip((light(RAMP) - 0.5) * contrast + 0.5, 0, 1)))
            y, u, v = gradient(PALETTES[palette - 1])
            return y[curve], u[curve], v[curve]

        tables = self._tables.get((palette, contrast), make)
        radius = round(values["softness"] * 12 * source.y.shape[0] / 720)
        if radius:
            source = source._replace(y=cv2.blur(source.y, (2 * radius + 1, 2 * radius + 1)))
        return through(source, tables)


class NightVision(Effect):
    name = "night"
    title = "Night vision"
    sliders = (
        Slider("gain", "Gain", 0.5, 3, 1.5),
        Slider("noise", "Noise", 0, 1, 0.35),
    )

    def __init__(self) -> None:
        self._tables: Memo[Tables] = Memo()
        self._mask: Memo[Frame] = Memo()
        self._grain = Grain()

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        gain, noise = values["gain"], values["noise"]

        def make() -> Tables:
            bright = 1 - np.exp(-light(RAMP) * gain * 1.6)
            y, u, v = gradient([(0, 0, 0.03, 0.01), (0.5, 0.05, 0.62, 0.16), (1, 0.72, 1.0, 0.72)])
            curve = table(luma(np.clip(bright, 0, 1)))
            return y[curve], u[curve], v[curve]

        height, width = source.y.shape
        tables = self._tables.get(gain, make)
        y = self._grain.add(source.y, noise * 0.7, time)
        y = cv2.multiply(
            y, self._mask.get((width, height), lambda: tube(width, height)), scale=1 / 255
        )
        return through(source._replace(y=y), tables)


def tube(width: int, height: int) -> Frame:
    """What an image intensifier leaves: a bright round, and fine lines."""
    mask = vignette(width, height, 0.95)
    mask[1::3] = (mask[1::3] * 0.86).astype(np.uint8)
    return mask


class ColourPop(Effect):
    name = "pop"
    title = "One colour"
    sliders = (
        Slider("hue", "Hue to keep", 0, 360, 0, whole=True),
        Slider("width", "Tolerance", 5, 120, 38, whole=True),
        Slider("boost", "Boost", 0.5, 2, 1.35),
    )
    _BITS = 6

    def __init__(self) -> None:
        self._tables: Memo[tuple[Frame, Frame]] = Memo()

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        key = (values["hue"], values["width"], values["boost"])
        table_u, table_v = self._tables.get(key, lambda: self._make(*key))
        frame, out = new_frame(source)
        out.y[:] = source.y
        index = (source.u.astype(np.uint16) >> 2 << self._BITS) | (source.v >> 2)
        out.u[:] = table_u[index]
        out.v[:] = table_v[index]
        return frame

    def _make(self, hue: float, width: float, boost: float) -> tuple[Frame, Frame]:
        """u and v for each pair of them, at six bits each."""
        steps = np.arange(1 << self._BITS) * 4.0 + 2
        u, v = np.meshgrid(steps - 128, steps - 128, indexing="ij")
        want_u, want_v = chroma_of(hue, 1.0)
        away = np.rad2deg(np.arctan2(v, u) - np.arctan2(want_v - 128, want_u - 128))
        away = np.abs((away + 180) % 360 - 180)
        near = np.clip((width + 15 - away) / 15, 0, 1)
        coloured = np.clip((np.hypot(u, v) - 6) / 10, 0, 1)
        weight = near * coloured * boost
        return table(128 + u * weight).ravel(), table(128 + v * weight).ravel()


class Negative(Effect):
    name = "negative"
    title = "Negative"
    sliders = (Slider("hue", "Turn colours", 0, 360, 0, whole=True),)

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        frame, out = new_frame(source)
        cv2.subtract(251, source.y, dst=out.y)
        turn_chroma(source, out, 180 + values["hue"], 1.0)
        return frame


class Spectrum(Effect):
    name = "spectrum"
    title = "Colour cycle"
    sliders = (
        Slider("speed", "Speed", 0, 2, 0.25),
        Slider("boost", "Saturation", 0.5, 3, 1.7),
    )

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        frame, out = new_frame(source)
        out.y[:] = source.y
        turn_chroma(source, out, 360 * (time * values["speed"] % 1) + 60, values["boost"])
        return frame


def turn_chroma(source: Planes, out: Planes, degrees: float, gain: float) -> None:
    """Turn every colour's hue, and multiply its saturation."""
    cos, sin = gain * np.cos(np.deg2rad(degrees)), gain * np.sin(np.deg2rad(degrees))
    cv2.addWeighted(source.u, cos, source.v, -sin, 128 * (1 - cos + sin), dst=out.u)
    cv2.addWeighted(source.u, sin, source.v, cos, 128 * (1 - cos - sin), dst=out.v)
