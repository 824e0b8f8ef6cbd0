"""Effects that look drawn, printed or typed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipelines.contract import Frame, Planes
from pipelines.effects.colour import half
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
from pipelines.effects.mask import grid
from pipelines.effects.opencv import cv2


def saturated(source: Planes, out: Planes, gain: float, smooth: int = 0) -> None:
    """Chroma times ``gain``, smoothed by a median of that size."""
    for plane, result in ((source.u, out.u), (source.v, out.v)):
        if smooth > 1:
            plane = cv2.medianBlur(plane, smooth)
        cv2.addWeighted(plane, gain, plane, 0, 128 * (1 - gain), dst=result)


class Cartoon(Effect):
    name = "cartoon"
    title = "Cartoon"
    sliders = (
        Slider("levels", "Shades", 3, 12, 6, whole=True),
        Slider("edges", "Outlines", 0, 1, 0.7),
        Slider("colour", "Colour", 0, 2.5, 1.6),
    )

    def __init__(self) -> None:
        self._steps: Memo[Frame] = Memo()

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        frame, out = new_frame(source)
        height, width = source.y.shape
        levels, edges = int(values["levels"]), values["edges"]
        small = half(source.y)
        for _ in range(2):
            small = cv2.medianBlur(small, 5)
        small = cv2.bilateralFilter(small, 5, 30, 5)
        flat = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        cv2.LUT(flat, self._steps.get(levels, lambda: steps(levels)), dst=out.y)
        if edges:
            block = max(3, odd(11 * scale(source)))
            soft = cv2.medianBlur(source.y, 5)
            lines = cv2.adaptiveThreshold(
                soft, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, block, 3 + 4 * (1 - edges)
            )
            lines = cv2.blur(lines, (3, 3))
            cv2.addWeighted(lines, edges, lines, 0, 255 * (1 - edges), dst=lines)
            cv2.multiply(out.y, lines, dst=out.y, scale=1 / 255)
        saturated(source, out, values["colour"], 5)
        return frame


def steps(levels: int) -> Frame:
    """Luma in a few shades, with a short slope between them so that they do not flicker."""
    bright = light(RAMP) * levels
    floor = np.floor(bright)
    slope = np.clip((bright - floor - 0.75) / 0.25, 0, 1)
    return table(luma(np.clip((floor + slope + 0.45) / levels, 0, 1)))


class Sketch(Effect):
    name = "sketch"
    title = "Pencil sketch"
    sliders = (
        Slider("softness", "Softness", 3, 41, 15, whole=True),
        Slider("darkness", "Darkness", 0.3, 3, 1.3),
        Slider("colour", "Colour", 0, 1, 0.0),
    )

    def __init__(self) -> None:
        self._curve: Memo[Frame] = Memo()
        self._paper: Memo[Frame] = Memo()

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        frame, out = new_frame(source)
        height, width = source.y.shape
        darkness = values["darkness"]
        calm = cv2.blur(source.y, (3, 3))
        around = cv2.blur(calm, (odd(values["softness"] * scale(source)),) * 2)
        around = cv2.blur(around, (odd(values["softness"] * scale(source) / 2),) * 2)
        drawn = cv2.divide(calm, around, scale=235)  # colour dodge: what is darker than around
        curve = self._curve.get(darkness, lambda: pencil(darkness))
        drawn = cv2.LUT(drawn, curve)
        paper = self._paper.get((width, height), lambda: grained(width, height))
        cv2.multiply(drawn, paper, dst=out.y, scale=1 / 255)
        saturated(source, out, values["colour"])
        return frame


def pencil(darkness: float) -> Frame:
    stroke = np.clip(RAMP / 235, 0, 1) ** (6 * darkness)
    return table(luma(0.06 + 0.94 * stroke))


def grained(width: int, height: int) -> Frame:
    """Paper: white, not quite even."""
    rng = np.random.default_rng(11)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), 1.1)
    paper: Frame = np.clip(250 + grain * 14, 210, 255).astype(np.uint8)
    return paper


class Neon(Effect):
    name = "neon"
    title = "Neon"
    sliders = (
        Slider("glow", "Glow", 0, 1, 0.6),
        Slider("hue", "Hue", 0, 360, 300, whole=True),
        Slider("spread", "Rainbow", 0, 1, 0.45),
        Slider("speed", "Speed", 0, 2, 0.2),
        Slider("background", "Background", 0, 1, 0.12),
    )

    def __init__(self) -> None:
        self._hues: Memo[tuple[Frame, Frame]] = Memo()

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        frame, out = new_frame(source)
        height, width = source.y.shape
        calm = cv2.GaussianBlur(source.y, (5, 5), 0)
        across = cv2.convertScaleAbs(cv2.Sobel(calm, cv2.CV_16S, 1, 0))
        down = cv2.convertScaleAbs(cv2.Sobel(calm, cv2.CV_16S, 0, 1))
        edges = cv2.subtract(cv2.addWeighted(across, 1.1, down, 1.1, 0), 26)
        small = half(edges)
        around = cv2.blur(small, (odd(16 * scale(source)),) * 2)
        around = cv2.blur(around, (odd(10 * scale(source)),) * 2)
        halo = cv2.resize(around, (width, height), interpolation=cv2.INTER_LINEAR)
        lit = cv2.addWeighted(edges, 1.0, halo, 1.6 * values["glow"], 0)
        cv2.addWeighted(lit, 0.86, source.y, values["background"], 16, dst=out.y)
        strength = cv2.addWeighted(small, 1.2, around, 3.2 * values["glow"] + 0.6, 0)
        turn = values["hue"] + 360 * (time * values["speed"] % 1)
        spread = values["spread"]
        u, v = self._hues.get(
            (width, height, round(turn), spread), lambda: hues(width, height, turn, spread)
        )
        blend(strength, u, out.u)
        blend(strength, v, out.v)
        return frame


def hues(width: int, height: int, turn: float, spread: float) -> tuple[Frame, Frame]:
    """Chroma of a rainbow along the diagonal; computed for a few pixels, and stretched."""
    x, y = grid(width // 32 + 2, height // 32 + 2)
    u, v = chroma_of(turn + 180 * spread * (x + y * 0.6), 1.0)
    size = (width // 2, height // 2)
    smooth = [cv2.resize(table(plane), size, interpolation=cv2.INTER_LINEAR) for plane in (u, v)]
    return smooth[0], smooth[1]


def blend(strength: Frame, chroma: Frame, out: Frame) -> None:
    """Grey where ``strength`` is 0, the chroma where it is 255."""
    above = cv2.multiply(cv2.subtract(chroma, 128), strength, scale=1 / 255)
    below = cv2.multiply(cv2.subtract(128, chroma), strength, scale=1 / 255)
    cv2.subtract(cv2.add(above, 128), below, dst=out)


class Comic(Effect):
    name = "comic"
    title = "Comic print"
    sliders = (
        Slider("dots", "Dot size", 4, 24, 9, whole=True),
        Slider("ink", "Ink", 0, 1, 0.55),
        Slider("colour", "Colour", 0, 2.5, 1.9),
    )

    def __init__(self) -> None:
        self._screen: Memo[Frame] = Memo()
        self._steps = steps(4)

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        frame, out = new_frame(source)
        height, width = source.y.shape
        size = max(2.5, values["dots"] * scale(source))
        ink = values["ink"]
        screen = self._screen.get((width, height, size), lambda: dots(width, height, size))
        calm = cv2.medianBlur(source.y, 5)
        printed = cv2.addWeighted(calm, 2.2, screen, 1.6, -262)
        flat = cv2.LUT(calm, self._steps)
        flat = cv2.addWeighted(flat, 0.75, flat, 0, 62)
        cv2.addWeighted(printed, ink, flat, 1 - ink, 0, dst=out.y)
        outline = cv2.adaptiveThreshold(
            calm,
            255,
            cv2.ADAPTIVE_THRESH_MEAN_C,
            cv2.THRESH_BINARY,
            max(3, odd(13 * scale(source))),
            9,
        )
        cv2.min(out.y, cv2.max(cv2.blur(outline, (3, 3)), 20), dst=out.y)
        saturated(source, out, values["colour"], 5)
        return frame


def dots(width: int, height: int, size: float) -> Frame:
    """A halftone screen at 45 degrees: bright in the middle of where a dot of paper shows."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    wave = np.pi / size
    screen = np.sin((x + y) * wave / np.sqrt(2)) * np.sin((x - y) * wave / np.sqrt(2))
    return table(127.5 + 127.5 * screen)


class Letters(Effect):
    name = "matrix"
    title = "Green code"
    sliders = (
        Slider("size", "Letter size", 8, 32, 12, whole=True),
        Slider("hue", "Hue", 0, 360, 125, whole=True),
        Slider("picture", "Picture behind", 0, 1, 0.3),
        Slider("speed", "Speed", 0, 2, 0.6),
    )
    _SHADES = 16
    _SIGNS = "0123456789ABCDEFHKLMNPRTXYZ#$%&*+<>=?"

    def __init__(self) -> None:
        self._atlas: Memo[Frame] = Memo()
        self._signs: Memo[Frame] = Memo()

    def apply(self, source: Planes, values: Mapping[str, float], time: float) -> Frame:
        frame, out = new_frame(source)
        height, width = source.y.shape
        cell = max(6, round(values["size"] * scale(source)))
        columns, rows = -(-width // cell), -(-height // cell)
        atlas = self._atlas.get(cell, lambda: self._draw(cell))
        signs = self._signs.get((columns, rows), lambda: self._choose(columns, rows))
        mean = cv2.resize(source.y, (columns, rows), interpolation=cv2.INTER_AREA)
        shade = mean.astype(np.uint16) * self._SHADES >> 8
        fall = time * values["speed"] * 12
        which = np.roll(signs, int(fall), axis=0)
        tiles = atlas[shade, which]
        letters = tiles.transpose(0, 2, 1, 3).reshape(rows * cell, columns * cell)
        letters = letters[:height, :width]
        cv2.addWeighted(letters, 0.92, source.y, 0.6 * values["picture"], 8, dst=out.y)
        u, v = chroma_of(values["hue"], 1.0)
        strength = cv2.addWeighted(half(out.y), 1.5, half(out.y), 0, 0)
        for plane, chroma in ((out.u, float(u)), (out.v, float(v))):
            gain = (chroma - 128) / 255
            cv2.addWeighted(strength, gain, strength, 0, 128, dst=plane)
        return frame

    def _draw(self, cell: int) -> Frame:
        """(shade, sign, row, column): each sign as bright as what it stands for."""
        atlas = np.zeros((self._SHADES, len(self._SIGNS), cell, cell), np.uint8)
        big = 4 * cell
        for number, sign in enumerate(self._SIGNS):
            image = np.zeros((big, big), np.uint8)
            font, size, weight = cv2.FONT_HERSHEY_SIMPLEX, cell / 8.5, max(2, cell // 3)
            (wide, high), _ = cv2.getTextSize(sign, font, size, weight)
            at = ((big - wide) // 2, (big + high) // 2)
            cv2.putText(image, sign, at, font, size, 255, weight, cv2.LINE_AA)
            glyph = cv2.resize(image, (cell, cell), interpolation=cv2.INTER_AREA)
            for shade in range(self._SHADES):
                level = (shade / (self._SHADES - 1)) ** 1.1 * 1.25
                atlas[shade, number] = np.clip(glyph * level * 1.6, 0, 235).astype(np.uint8)
        return atlas

    def _choose(self, columns: int, rows: int) -> Frame:
        rng = np.random.default_rng(5)
        return rng.integers(0, len(self._SIGNS), (rows, columns), dtype=np.uint8)
