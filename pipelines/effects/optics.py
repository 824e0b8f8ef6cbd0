"""Effects of lenses and mirrors, light and time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipelines.contract import Frame, Planes, blank, planes
from pipelines.effects.drawing import saturated
from pipelines.effects.effect import (
    RAMP,
    Effect,
    Memo,
    Slider,
    light,
    luma,
    new_frame,
    odd,
    scale,
    table,
)
from pipelines.effects.grain import Grain
from pipelines.effects.mask import grid, vignette
from pipelines.effects.opencv import cv2

Field = NDArray[np.float32]
Maps = tuple[tuple[Field, Field], tuple[Field, Field]]


class Cinema(Effect):
    name = "cinema"
    title = "Cinema"
    sliders = (
        Slider("vignette", "Dark corners", 0, 1, 0.6),
        Slider("grain", "Grain", 0, 1, 0.2),
        Slider("grade", "Teal and orange", 0, 1, 0.5),
        Slider("bars", "Black bars", 0, 0.3, 0.1),
    )

    def __init__(self) -> None:
        self._mask: Memo[Frame] = Memo()
        self._tables: Memo[tuple[Frame, Frame, Frame]] = Memo()
        self._grain = Grain(0.8)

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        frame, out = new_frame(source)
        height, width = source.y.shape
        strength, grade = values["vignette"], values["grade"]
        mask = self._mask.get((width, height, strength), lambda: vignette(width, height, strength))
        curve, cool, warm = self._tables.get(grade, lambda: self._grade(grade))
        y = cv2.LUT(source.y, curve)
        y = cv2.multiply(y, mask, scale=1 / 255)
        out.y[:] = self._grain.add(y, 0.3 * values["grain"], time)
        small = cv2.resize(source.y, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        for plane, result, tint in ((source.u, out.u, cool), (source.v, out.v, warm)):
            cv2.addWeighted(plane, 1.1, cv2.LUT(small, tint), 1.0, -128 * 1.1, dst=result)
        bar = round(height * values["bars"] / 2) // 2 * 2
        if bar:
            out.y[:bar] = out.y[-bar:] = 16
            for plane in (out.u, out.v):
                plane[: bar // 2] = plane[-bar // 2 :] = 128
        return frame

    def _grade(self, amount: float) -> tuple[Frame, Frame, Frame]:
        bright = light(RAMP)
        curve = bright + 0.35 * amount * (bright * bright * (3 - 2 * bright) - bright)
        tone = 16 * amount * (0.5 - bright)
        return table(luma(curve)), table(128 + tone), table(128 - tone)


class TiltShift(Effect):
    name = "tiltshift"
    title = "Tilt-shift"
    sliders = (
        Slider("focus", "Sharp at", 0, 1, 0.5),
        Slider("width", "Sharp width", 0.05, 0.9, 0.3),
        Slider("blur", "Blur", 0, 1, 0.6),
        Slider("colour", "Colour", 0.5, 2, 1.35),
    )

    def __init__(self) -> None:
        self._weights: Memo[tuple[Field, Field, Field, Field]] = Memo()

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        frame, out = new_frame(source)
        height, width = source.y.shape
        key = (width, height, values["focus"], values["width"])
        sharp, soft, half_sharp, half_soft = self._weights.get(key, lambda: self._make(*key))
        size = values["blur"] * 30 * scale(source)
        out.y[:] = cv2.blendLinear(source.y, blurred(source.y, size), sharp, soft)
        lively = planes(blank(width, height))
        saturated(source, lively, values["colour"])
        for plane, result in ((lively.u, out.u), (lively.v, out.v)):
            result[:] = cv2.blendLinear(plane, blurred(plane, size / 2), half_sharp, half_soft)
        return frame

    def _make(
        self, width: int, height: int, focus: float, band: float
    ) -> tuple[Field, Field, Field, Field]:
        found: list[Field] = []
        for rows, columns in ((height, width), (height // 2, width // 2)):
            at = (np.arange(rows, dtype=np.float32) + 0.5) / rows
            away = np.clip((np.abs(at - focus) - band / 2) / 0.22, 0, 1)
            soft = np.repeat((away * away * (3 - 2 * away))[:, None], columns, axis=1)
            found += [np.ascontiguousarray(1 - soft), np.ascontiguousarray(soft)]
        return found[0], found[1], found[2], found[3]


def blurred(plane: Frame, size: float) -> Frame:
    """Nearly a Gaussian, in constant time."""
    kernel = odd(size)
    if kernel == 1:
        return plane
    soft: Frame = cv2.blur(cv2.blur(plane, (kernel, kernel)), (odd(size * 0.7),) * 2)
    return soft


class Dream(Effect):
    name = "dream"
    title = "Dreamy glow"
    sliders = (
        Slider("glow", "Glow", 0, 1, 0.55),
        Slider("size", "Size", 5, 80, 36, whole=True),
        Slider("warmth", "Warmth", -1, 1, 0.3),
    )

    def __init__(self) -> None:
        self._high = table(luma(np.clip((light(RAMP) - 0.35) / 0.65, 0, 1) ** 1.3) - 16)

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        frame, out = new_frame(source)
        height, width = source.y.shape
        small = cv2.resize(
            source.y, (max(1, width // 4), max(1, height // 4)), interpolation=cv2.INTER_AREA
        )
        halo = blurred(cv2.LUT(small, self._high), values["size"] * scale(source) / 4)
        halo = cv2.resize(halo, (width, height), interpolation=cv2.INTER_LINEAR)
        # Screen: light upon light, without burning out.
        room = cv2.multiply(cv2.subtract(240, source.y), halo, scale=1.35 * values["glow"] / 255)
        soft = cv2.addWeighted(
            source.y, 0.88, cv2.blur(source.y, (odd(9 * scale(source)),) * 2), 0.12, 3
        )
        cv2.add(soft, room, dst=out.y)
        saturated(source, out, 1.15)
        shift = 9 * values["warmth"]
        cv2.addWeighted(out.u, 1, out.u, 0, -shift, dst=out.u)
        cv2.addWeighted(out.v, 1, out.v, 0, shift, dst=out.v)
        return frame


class Mirror(Effect):
    name = "mirror"
    title = "Mirror"
    sliders = (Slider("kind", "Left, right, top, both", 1, 4, 1, whole=True),)

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        frame, out = new_frame(source)
        kind = int(values["kind"])
        for plane, result in zip(source, out, strict=True):
            result[:] = plane
            rows, columns = plane.shape
            if min(rows, columns) < 2:
                continue
            if kind in (1, 4):
                result[:, columns - columns // 2 :] = cv2.flip(plane[:, : columns // 2], 1)
            elif kind == 2:
                result[:, : columns // 2] = cv2.flip(plane[:, columns - columns // 2 :], 1)
            if kind in (3, 4):
                result[rows - rows // 2 :] = cv2.flip(result[: rows // 2].copy(), 0)
        return frame


def with_chroma(x: Field, y: Field) -> Maps:
    """Where each pixel comes from: maps for luma, and the same at the size of chroma."""
    height, width = x.shape
    size = (width // 2, height // 2)
    return (
        (x, y),
        (
            cv2.resize(x, size, interpolation=cv2.INTER_AREA) / 2 - 0.25,
            cv2.resize(y, size, interpolation=cv2.INTER_AREA) / 2 - 0.25,
        ),
    )


def warped(source: Planes, maps: Maps) -> Frame:
    """The picture through maps, mirrored at its edges."""
    frame, out = new_frame(source)
    for plane, result, (x, y) in zip(source, out, (maps[0], maps[1], maps[1]), strict=True):
        cv2.remap(plane, x, y, cv2.INTER_LINEAR, dst=result, borderMode=cv2.BORDER_REFLECT)
    return frame


class Fisheye(Effect):
    name = "fisheye"
    title = "Fisheye"
    sliders = (
        Slider("strength", "Strength", -1, 1, 0.6),
        Slider("x", "Across", 0, 1, 0.5),
        Slider("y", "Down", 0, 1, 0.5),
    )

    def __init__(self) -> None:
        self._maps: Memo[Maps] = Memo()

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        height, width = source.y.shape
        key = (width, height, values["strength"], values["x"], values["y"])
        return warped(source, self._maps.get(key, lambda: self._make(*key)))

    def _make(self, width: int, height: int, strength: float, across: float, down: float) -> Maps:
        x, y = grid(width, height)
        at_x, at_y = (across - 0.5) * 2 * width / height, (down - 0.5) * 2
        x, y = x - at_x, y - at_y
        radius = np.sqrt(x * x + y * y)
        inside = np.clip(radius / 1.05, 0, 1)
        bend = inside**strength if strength >= 0 else 1 - strength * (1 - inside) ** 2 * 1.6
        size = height / 2
        return with_chroma(
            ((x * bend + at_x) * size + width / 2 - 0.5).astype(np.float32),
            ((y * bend + at_y) * size + size - 0.5).astype(np.float32),
        )


class Kaleidoscope(Effect):
    name = "kaleidoscope"
    title = "Kaleidoscope"
    sliders = (
        Slider("segments", "Segments", 2, 16, 6, whole=True),
        Slider("zoom", "Zoom", 0.5, 3, 1.2),
        Slider("speed", "Spin", -1, 1, 0.1),
    )

    def __init__(self) -> None:
        self._field: Memo[tuple[Field, Field]] = Memo()
        self._maps: Memo[Maps] = Memo()

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        height, width = source.y.shape
        key = (width, height, int(values["segments"]), values["zoom"])
        turn = round(time * values["speed"] % 1 * 720) / 2  # half a degree is enough
        maps = self._maps.get((*key, turn), lambda: self._make(key, turn))
        return warped(source, maps)

    def _make(self, key: tuple[int, int, int, float], turn: float) -> Maps:
        width, height, _, _ = key
        x, y = self._field.get(key, lambda: self._fold(*key))
        cos, sin = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
        across = cv2.addWeighted(x, cos, y, -sin, width / 2)
        down = cv2.addWeighted(x, sin, y, cos, height / 2)
        return with_chroma(across, down)

    def _fold(self, width: int, height: int, segments: int, zoom: float) -> tuple[Field, Field]:
        """Every pixel's place in the first segment, in pixels from the middle."""
        x, y = grid(width, height)
        radius = np.sqrt(x * x + y * y) / zoom
        wedge = np.pi / segments
        angle = np.abs((np.arctan2(y, x) + wedge) % (2 * wedge) - wedge)
        size = height / 2
        return (
            (radius * np.cos(angle) * size).astype(np.float32),
            (radius * np.sin(angle) * size).astype(np.float32),
        )


class Trails(Effect):
    name = "trails"
    title = "Light trails"
    sliders = (Slider("length", "Length", 0, 0.98, 0.85),)
    moving = True

    def __init__(self) -> None:
        self._last: Planes | None = None

    def reset(self) -> None:
        self._last = None

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        frame, out = new_frame(source)
        last, keep = self._last, values["length"]
        if last is None or last.y.shape != source.y.shape:
            for plane, result in zip(source, out, strict=True):
                result[:] = plane
        else:
            faded = cv2.addWeighted(last.y, keep, last.y, 0, 16 * (1 - keep))
            cv2.max(source.y, faded, dst=out.y)
            height, width = source.u.shape
            newer = cv2.compare(source.y, faded, cv2.CMP_GE)
            newer = cv2.resize(newer, (width, height), interpolation=cv2.INTER_AREA)
            for plane, old, result in ((source.u, last.u, out.u), (source.v, last.v, out.v)):
                weight = newer.astype(np.float32)
                result[:] = cv2.blendLinear(plane, old, weight, 255 - weight)
        self._last = out
        return frame
