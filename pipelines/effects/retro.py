"""Effects of old machines: tape, film, tubes and small screens."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipelines.contract import Frame, Planes
from pipelines.effects.colour import Tables, gradient, half, through
from pipelines.effects.drawing import saturated
from pipelines.effects.effect import (
    RAMP,
    Effect,
    Memo,
    Slider,
    chroma_of,
    light,
    luma,
    new_frame,
    odd,
    scale,
    table,
)
from pipelines.effects.grain import Grain
from pipelines.effects.mask import vignette
from pipelines.effects.opencv import cv2


def moment(time: float, rate: float, salt: int) -> np.random.Generator:
    """Chance that changes ``rate`` times a second, and is the same at the same time."""
    return np.random.default_rng((salt, int(time * rate) & 0xFFFFFFFF))


class Pixelate(Effect):
    name = "pixelate"
    title = "Pixels"
    sliders = (
        Slider("size", "Pixel size", 4, 80, 18, whole=True),
        Slider("levels", "Shades", 2, 32, 16, whole=True),
    )

    def __init__(self) -> None:
        self._steps: Memo[Frame] = Memo()

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        frame, out = new_frame(source)
        size = max(2.0, values["size"] * scale(source))
        levels = int(values["levels"])
        steps = self._steps.get(levels, lambda: posterised(levels))
        height, width = source.y.shape
        few = (max(2, round(width / size)), max(2, round(height / size)))
        for plane, result in zip(source, out, strict=True):
            small = cv2.resize(plane, few, interpolation=cv2.INTER_AREA)
            if plane is source.y:
                small = cv2.LUT(small, steps)
            cv2.resize(small, plane.shape[::-1], dst=result, interpolation=cv2.INTER_NEAREST)
        return frame


def posterised(levels: int) -> Frame:
    return table(luma(np.rint(light(RAMP) * (levels - 1)) / (levels - 1)))


class Handheld(Effect):
    name = "handheld"
    title = "Pocket console"
    sliders = (
        Slider("size", "Pixel size", 3, 16, 6, whole=True),
        Slider("contrast", "Contrast", 0.5, 2, 1.2),
        Slider("hue", "Hue", 0, 360, 90, whole=True),
    )
    _BAYER = np.array(
        [[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], dtype=np.float32
    )

    def __init__(self) -> None:
        self._dither: Memo[Frame] = Memo()
        self._curve: Memo[Frame] = Memo()
        self._tables: Memo[Tables] = Memo()

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        height, width = source.y.shape
        contrast, hue = values["contrast"], values["hue"]
        size = max(2.0, values["size"] * scale(source))
        few = (max(2, round(width / size)), max(2, round(height / size)))
        dither = self._dither.get(few, lambda: self._tiled(*few))
        curve = self._curve.get(
            contrast,
            lambda: table(255 * np.clip((light(RAMP) - 0.5) * contrast + 0.5, 0, 1)),
        )
        small = cv2.LUT(cv2.resize(source.y, few, interpolation=cv2.INTER_AREA), curve)
        small = cv2.add(cv2.addWeighted(small, 0.8, small, 0, 0), dither)
        big = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
        return through(source._replace(y=big), self._tables.get(hue, lambda: self._shades(hue)))

    def _tiled(self, columns: int, rows: int) -> Frame:
        pattern = (self._BAYER / 16 * 62).astype(np.uint8)
        whole = np.tile(pattern, (-(-rows // 4), -(-columns // 4)))
        return np.ascontiguousarray(whole[:rows, :columns])

    def _shades(self, hue: float) -> Tables:
        four = np.minimum(np.arange(256) // 64, 3)
        u, v = chroma_of(hue, np.array([0.28, 0.4, 0.42, 0.36]))
        return (
            table(np.array([42, 88, 140, 192])[four]),
            table(u[four]),
            table(v[four]),
        )


class Glitch(Effect):
    name = "glitch"
    title = "Glitch"
    sliders = (
        Slider("strength", "Strength", 0, 1, 0.45),
        Slider("split", "Colour split", 0, 60, 18, whole=True),
        Slider("rate", "Changes a second", 1, 15, 6, whole=True),
    )

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        frame, out = new_frame(source)
        height, width = source.y.shape
        chance = moment(time, values["rate"], 1)
        strength = values["strength"]
        split = int(values["split"] * scale(source) / 2 * (0.5 + chance.random()))
        out.y[:] = source.y
        out.u[:] = np.roll(source.u, split, axis=1)
        out.v[:] = np.roll(source.v, -split, axis=1)
        saturated(out, out, 1.25)
        for _ in range(int(chance.integers(3, 7) * strength * 3)):
            rows = int(chance.integers(2, max(3, int(height * 0.13)))) // 2 * 2
            top = int(chance.integers(0, max(1, height - rows))) // 2 * 2
            shift = int(chance.normal(0, 0.1 * strength) * width) // 2 * 2
            band, soft = slice(top, top + rows), slice(top // 2, (top + rows) // 2)
            out.y[band] = np.roll(source.y[band], shift, axis=1)
            out.u[soft] = np.roll(source.u[soft], shift // 2 + split, axis=1)
            out.v[soft] = np.roll(source.v[soft], shift // 2 - 2 * split, axis=1)
            if chance.random() < 0.25:
                cv2.subtract(250, out.y[band], dst=out.y[band])
        for _ in range(int(strength * 4)):
            self._block(source, out, chance)
        return frame

    def _block(self, source: Planes, out: Planes, chance: np.random.Generator) -> None:
        """A rectangle of the picture in another place, as a lost packet leaves it."""
        height, width = source.y.shape
        wide, high = width // 16 * 2, height // 36 * 2
        left, to_left = (int(chance.integers(0, width - wide)) // 2 * 2 for _ in range(2))
        top, to_top = (int(chance.integers(0, height - high)) // 2 * 2 for _ in range(2))
        for plane, result, part in zip(source, out, (1, 2, 2), strict=True):
            rows, columns = high // part, wide // part
            block = plane[top // part :, left // part :][:rows, :columns]
            result[to_top // part :, to_left // part :][:rows, :columns] = block


class Tape(Effect):
    name = "vhs"
    title = "Video tape"
    sliders = (
        Slider("wear", "Wear", 0, 1, 0.5),
        Slider("bleed", "Colour bleeding", 0, 1, 0.6),
        Slider("tracking", "Tracking error", 0, 1, 0.35),
        Slider("lines", "Scan lines", 0, 1, 0.35),
    )

    def __init__(self) -> None:
        self._grain = Grain(0.7)
        self._soft = Grain(2.0)

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        frame, out = new_frame(source)
        pixel, wear = scale(source), values["wear"]
        soft = cv2.blur(source.y, (odd(5 * pixel), 1))
        sharp = cv2.addWeighted(soft, 1.55, cv2.blur(soft, (odd(13 * pixel), 1)), -0.55, 4)
        out.y[:] = self._grain.add(sharp, 0.22 * wear, time)
        bleed = odd(60 * pixel * values["bleed"])
        shift = int(5 * pixel * values["bleed"])
        for plane, result in ((source.u, out.u), (source.v, out.v)):
            smeared = cv2.blur(plane, (bleed, 3))
            smeared = self._soft.add(np.roll(smeared, shift, axis=1), 0.14 * wear, time)
            cv2.addWeighted(smeared, 1.2, smeared, 0, -128 * 0.2, dst=result)
        self._track(out, values["tracking"], time)
        self._drop_out(out, wear, time)
        if values["lines"]:
            every = out.y[::2]
            every[:] = cv2.addWeighted(every, 1 - 0.45 * values["lines"], every, 0, 0)
        return frame

    def _track(self, out: Planes, amount: float, time: float) -> None:
        """Lines that sway, and a torn band that wanders down."""
        height, width = out.y.shape
        chance = moment(time, 30, 2)
        torn = int(height * 0.07 * (0.4 + amount)) // 2 * 2
        top = int((time * 0.23 % 1.2) * height) // 2 * 2
        bottom = height - torn // 2 // 2 * 2
        for start, stop, reach in ((top, top + torn, 0.05), (bottom, height, 0.09)):
            for row in range(start, min(stop, height - 1), 2):
                shift = int(chance.normal(0, reach * amount) * width) // 2 * 2
                if not shift:
                    continue
                out.y[row : row + 2] = np.roll(out.y[row : row + 2], shift, axis=1)
                for plane in (out.u, out.v):
                    plane[row // 2] = np.roll(plane[row // 2], shift // 2)
        sway = int(chance.normal(0, 1.4 * amount) * scale(out))
        if sway:
            out.y[1::2] = np.roll(out.y[1::2], sway, axis=1)

    def _drop_out(self, out: Planes, wear: float, time: float) -> None:
        """Short white streaks where the coating is gone."""
        height, width = out.y.shape
        chance = moment(time, 30, 3)
        for _ in range(int(chance.poisson(7 * wear))):
            row = int(chance.integers(0, height))
            left = int(chance.integers(0, width))
            out.y[row : row + 2, left : left + int(chance.integers(6, 8 + width // 8))] = 225


class OldFilm(Effect):
    name = "film"
    title = "Old film"
    sliders = (
        Slider("age", "Age", 0, 1, 0.55),
        Slider("tone", "Tone", 0, 1, 0.5),
        Slider("flicker", "Flicker", 0, 1, 0.4),
    )
    _FPS = 18

    def __init__(self) -> None:
        self._tables: Memo[Tables] = Memo()
        self._mask: Memo[Frame] = Memo()
        self._grain = Grain(0.9)

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        height, width = source.y.shape
        age, tone = values["age"], values["tone"]
        chance = moment(time, self._FPS, 4)
        pixel = scale(source)
        jump = int(chance.normal(0, 2.2 * age) * pixel)
        y = np.roll(source.y, jump, axis=0) if jump else source.y
        bright = 1 + values["flicker"] * float(chance.normal(0, 0.11))
        y = cv2.addWeighted(y, bright, y, 0, 0)
        y = self._grain.add(y, 0.28 * age, time)
        y = cv2.multiply(
            y,
            self._mask.get((width, height, age), lambda: self._make(width, height, age)),
            scale=1 / 255,
        )
        self._marks(y, age, chance, time)
        return through(source._replace(y=y), self._tables.get(tone, lambda: toned(tone)))

    def _make(self, width: int, height: int, age: float) -> Frame:
        return vignette(width, height, 0.45 + 0.5 * age)

    def _marks(self, y: Frame, age: float, chance: np.random.Generator, time: float) -> None:
        """Scratches that stay for a while, and dust that does not."""
        height, width = y.shape
        thick = max(1, round(1.4 * scale_of(height)))
        slow = moment(time, 1.5, 5)
        for _ in range(int(slow.poisson(3 * age))):
            column = int(slow.integers(0, width)) + int(chance.normal(0, 2))
            column = min(max(column, 0), width - thick)
            strip = y[:, column : column + thick]
            strip[:] = cv2.addWeighted(strip, 0.5, strip, 0, 105).reshape(strip.shape)
        for _ in range(int(chance.poisson(9 * age))):
            centre = (int(chance.integers(0, width)), int(chance.integers(0, height)))
            axes = tuple(int(each) for each in chance.integers(1, 3 + int(6 * scale_of(height)), 2))
            angle = float(chance.integers(0, 180))
            shade = int(chance.choice((24, 40, 225)))
            cv2.ellipse(y, centre, axes, angle, 0, 360, shade, -1, cv2.LINE_AA)


def scale_of(height: int) -> float:
    return height / 720


def toned(amount: float) -> Tables:
    """Silver that has turned brown; none of the source's colour."""
    bright = light(RAMP)
    curve = bright * bright * (3 - 2 * bright) * 0.5 + bright * 0.5
    u, v = chroma_of(36, 0.34 * amount * np.sqrt(np.clip(curve * (1.5 - curve), 0, 1)))
    return table(luma(0.05 + 0.9 * curve)), table(u), table(v)


class PopArt(Effect):
    name = "popart"
    title = "Pop art"
    sliders = (
        Slider("hue", "Turn colours", 0, 360, 0, whole=True),
        Slider("tiles", "Pictures across", 1, 4, 2, whole=True),
    )
    _PAIRS = (
        ((0.1, 0.05, 0.35), (1.0, 0.25, 0.6), (1.0, 0.9, 0.2)),
        ((0.0, 0.2, 0.35), (0.0, 0.7, 0.75), (1.0, 0.55, 0.35)),
        ((0.3, 0.0, 0.2), (0.95, 0.4, 0.1), (0.75, 1.0, 0.75)),
        ((0.05, 0.15, 0.1), (0.25, 0.5, 1.0), (1.0, 0.75, 0.9)),
    )

    def __init__(self) -> None:
        self._tables: Memo[list[Tables]] = Memo()

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        frame, out = new_frame(source)
        height, width = source.y.shape
        tiles = int(values["tiles"])
        tables = self._tables.get(values["hue"], lambda: self._make(values["hue"]))
        wide, high = -(-width // (2 * tiles)) * 2, -(-height // (2 * tiles)) * 2
        small = cv2.resize(source.y, (wide, high), interpolation=cv2.INTER_AREA)
        small = cv2.medianBlur(small, 5)
        quarter = half(small)
        for number in range(tiles * tiles):
            row, column = divmod(number, tiles)
            three = tables[(row * 2 + column) % len(tables)]
            for plane, values_of, lookup, part in zip(
                out, (small, quarter, quarter), three, (1, 2, 2), strict=True
            ):
                top, left = row * high // part, column * wide // part
                spot = plane[top : top + high // part, left : left + wide // part]
                spot[:] = cv2.LUT(values_of, lookup)[: spot.shape[0], : spot.shape[1]]
        return frame

    def _make(self, hue: float) -> list[Tables]:
        made = []
        for dark, middle, bright in self._PAIRS:
            steps = [(0.0, *dark), (0.3, *dark), (0.34, *middle), (0.58, *middle)]
            y, u, v = gradient([*steps, (0.62, *bright), (1.0, *bright)])
            cos, sin = np.cos(np.deg2rad(hue)), np.sin(np.deg2rad(hue))
            across, down = u.astype(float) - 128, v.astype(float) - 128
            made.append(
                (y, table(128 + across * cos - down * sin), table(128 + across * sin + down * cos))
            )
        return made
