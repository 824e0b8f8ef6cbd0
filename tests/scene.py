"""A drawn streamer in a drawn room: what pages are shown with, and effects pictured on."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

WIDTH: Final = 1280
HEIGHT: Final = 720
FINE: Final = 4  # bits of a pixel's fraction in what OpenCV draws

SKIN: Final = (233, 178, 142)
HAIR: Final = (74, 44, 34)
SHIRT: Final = (38, 128, 150)
DARK: Final = (44, 30, 34)


def draw(seconds: float) -> Image:
    """The scene at a time, RGB, shape (720, 1280, 3)."""
    image = _room().copy()
    sway = 12 * math.sin(seconds * 1.1)
    nod = 5 * math.sin(seconds * 2.3)
    _lamp_light(image, 0.85 + 0.15 * math.sin(seconds * 0.9))
    _body(image, 640 + sway * 0.5)
    _head(image, 640 + sway, 330 + nod, seconds)
    _hand(image, 985 + sway * 0.4, 420, 0.35 * math.sin(seconds * 5.0))
    grain = _grain(int(seconds * 30) % 8)
    noisy: Image = np.clip(image.astype(np.int16) + grain, 0, 255).astype(np.uint8)
    return noisy


def camera_file(path: Path, *, seconds: float = 4.0, fps: int = 30) -> Path:
    """The scene as a motion-JPEG file, which Chromium takes for a camera."""
    with path.open("wb") as file:
        for number in range(int(seconds * fps)):
            picture = cv2.cvtColor(draw(number / fps), cv2.COLOR_RGB2BGR)
            _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
            file.write(jpeg.tobytes())
    return path


def _point(x: float, y: float) -> tuple[int, int]:
    return round(x * (1 << FINE)), round(y * (1 << FINE))


def _oval(
    image: Image, x: float, y: float, half: tuple[float, float], colour: Colour, angle: float = 0
) -> None:
    axes = (round(half[0] * (1 << FINE)), round(half[1] * (1 << FINE)))
    cv2.ellipse(image, _point(x, y), axes, angle, 0, 360, colour, -1, cv2.LINE_AA, FINE)


def _arc(
    image: Image,
    x: float,
    y: float,
    half: tuple[int, int],
    between: tuple[int, int],
    colour: Colour,
    thick: int,
) -> None:
    """Of an oval, between two angles; -1 fills it."""
    axes = (half[0] << FINE, half[1] << FINE)
    cv2.ellipse(image, _point(x, y), axes, 0, *between, colour, thick, cv2.LINE_AA, FINE)


def _shape(image: Image, points: list[tuple[float, float]], colour: Colour) -> None:
    corners = np.array([_point(x, y) for x, y in points], dtype=np.int32)
    cv2.fillPoly(image, [corners], colour, cv2.LINE_AA, FINE)


def _lighter(image: Image, mask: NDArray[np.float32], colour: Colour, much: float) -> None:
    blend = (mask * much)[..., None]
    image[:] = (image * (1 - blend) + np.array(colour, np.float32) * blend).astype(np.uint8)


@cache
def _glow(x: int, y: int, size: int) -> NDArray[np.float32]:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    far = np.hypot(columns - x, rows - y) / size
    glow: NDArray[np.float32] = np.exp(-far * far)
    return glow


@cache
def _grain(number: int) -> NDArray[np.int16]:
    noise = np.random.default_rng(number).normal(0, 2.2, (HEIGHT, WIDTH, 1))
    return noise.astype(np.int16)


@cache
def _room() -> Image:
    across = np.linspace(0, 1, WIDTH, dtype=np.float32)[None, :, None]
    down = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None, None]
    wall = np.array((70, 66, 104)) * (1 - across) + np.array((122, 84, 112)) * across
    image = (wall * (1.08 - 0.35 * down)).clip(0, 255).astype(np.uint8)
    _window(image)
    _shelf(image)
    _plant(image)
    _lighter(image, _glow(640, 330, 420), (255, 214, 180), 0.14)
    return image


def _window(image: Image) -> None:
    cv2.rectangle(image, (70, 70), (372, 420), (236, 226, 214), -1)
    for row in range(82, 408):
        part = (row - 82) / 326
        sky = tuple(
            int(a + (b - a) * part) for a, b in zip((90, 150, 224), (250, 196, 150), strict=True)
        )
        image[row, 82:360] = sky
    _oval(image, 270, 250, (34, 34), (255, 238, 190))
    hills = [(82.0, 340.0), (150, 290), (215, 330), (290, 276), (360, 322), (360, 408), (82, 408)]
    _shape(image, hills, (92, 112, 132))
    near = [(82.0, 376.0), (170, 346), (250, 380), (360, 352), (360, 408), (82, 408)]
    _shape(image, near, (58, 92, 86))
    cv2.line(image, (221, 76), (221, 414), (236, 226, 214), 10)
    cv2.line(image, (76, 245), (366, 245), (236, 226, 214), 8)


def _shelf(image: Image) -> None:
    for level, top in enumerate((170, 330)):
        cv2.rectangle(image, (930, top), (1225, top + 14), (128, 84, 60), -1)
        x, turn = 944, 0
        random = np.random.default_rng(level + 5)
        while x < 1150:
            width, height = int(random.integers(16, 30)), int(random.integers(72, 118))
            colours = (
                (214, 92, 84),
                (240, 190, 92),
                (84, 160, 140),
                (96, 120, 196),
                (222, 216, 206),
            )
            colour = colours[(turn + level) % len(colours)]
            cv2.rectangle(image, (x, top - height), (x + width, top), colour, -1)
            cv2.rectangle(
                image,
                (x + 4, top - height + 12),
                (x + width - 4, top - height + 18),
                (250, 244, 232),
                -1,
            )
            x += width + 3
            turn += 1
    _oval(image, 1190, 140, (26, 30), (236, 120, 88))
    cv2.rectangle(image, (1172, 286), (1214, 330), (222, 216, 206), -1)


def _plant(image: Image) -> None:
    cv2.rectangle(image, (138, 590), (262, 720), (196, 104, 74), -1)
    cv2.rectangle(image, (126, 574), (274, 604), (212, 122, 90), -1)
    for number, angle in enumerate((-64, -40, -18, 6, 28, 52, 70)):
        lean = math.radians(angle)
        length = 128 - abs(angle) * 0.5
        x, y = 200 + math.sin(lean) * length, 576 - math.cos(lean) * length
        colour = ((70, 140, 84), (92, 168, 96))[number % 2]
        _oval(image, (200 + x) / 2, (576 + y) / 2, (length / 2 + 6, 19), colour, angle - 90)


def _lamp_light(image: Image, much: float) -> None:
    _shape(image, [(1010, 720), (1030, 560), (1042, 560), (1062, 720)], (60, 54, 62))
    _shape(image, [(966, 560), (996, 470), (1076, 470), (1106, 560)], (255, 214, 130))
    _lighter(image, _glow(1036, 520, 190), (255, 216, 140), 0.42 * much)


def _body(image: Image, x: float) -> None:
    shoulders = [
        (x - 250, 720.0), (x - 236, 610), (x - 190, 556), (x - 74, 520), (x + 74, 520),
        (x + 190, 556), (x + 236, 610), (x + 250, 720),
    ]  # fmt: skip
    _shape(image, shoulders, SHIRT)
    _shape(image, [(x - 62, 440), (x + 62, 440), (x + 70, 540), (x, 592), (x - 70, 540)], SKIN)
    _shape(image, [(x - 96, 516), (x - 60, 506), (x, 600), (x - 22, 628)], (28, 102, 122))
    _shape(image, [(x + 96, 516), (x + 60, 506), (x, 600), (x + 22, 628)], (28, 102, 122))
    _oval(image, x, 664, (7, 7), (236, 232, 224))


def _head(image: Image, x: float, y: float, seconds: float) -> None:
    _oval(image, x, y - 24, (156, 172), HAIR)
    _oval(image, x - 132, y + 24, (22, 34), SKIN)
    _oval(image, x + 132, y + 24, (22, 34), SKIN)
    _oval(image, x, y + 16, (128, 156), SKIN)
    _shape(
        image,
        [(x - 134, y - 40), (x - 96, y - 138), (x + 20, y - 168), (x + 118, y - 118),
         (x + 136, y - 34), (x + 84, y - 84), (x - 16, y - 106), (x - 86, y - 78)],
        HAIR,
    )  # fmt: skip
    for side in (-76, 76):
        _oval(image, x + side, y + 62, (26, 16), (238, 150, 128))
    for side in (-52, 52):
        _eye(image, x + side, y, seconds)
    cv2.line(image, _point(x - 18, y + 8), _point(x + 18, y + 8), DARK, 4, cv2.LINE_AA, FINE)
    _arc(image, x, y + 52, (13, 9), (10, 170), (204, 138, 108), 5)
    wide = round(26 + 8 * max(0.0, math.sin(seconds * 6)))
    _arc(image, x, y + 92, (46, wide), (0, 180), (150, 50, 56), -1)
    _arc(image, x, y + 93, (38, 9), (0, 180), (252, 248, 244), -1)
    _headphones(image, x, y)


def _eye(image: Image, x: float, y: float, seconds: float) -> None:
    if seconds % 3.7 > 3.55:  # closed
        _arc(image, x, y + 12, (22, 8), (0, 180), DARK, 4)
    else:
        look = 3 * math.sin(seconds)
        _oval(image, x, y + 10, (24, 19), (252, 250, 246))
        _oval(image, x + look, y + 11, (12, 13), (64, 88, 74))
        _oval(image, x + look, y + 11, (6, 6), (20, 18, 20))
    for radius in (34, 35):  # glasses
        _arc(image, x, y + 11, (radius, 28), (0, 360), DARK, 3)
    _arc(image, x, y - 22, (30, 12), (190, 350), HAIR, 8)


def _headphones(image: Image, x: float, y: float) -> None:
    _arc(image, x, y + 4, (158, 186), (188, 352), (236, 92, 84), 16)
    for side in (-1, 1):
        _oval(image, x + side * 150, y + 24, (30, 48), (236, 92, 84))
        _oval(image, x + side * 140, y + 24, (20, 40), (54, 44, 58))


def _hand(image: Image, x: float, y: float, wave: float) -> None:
    turn = math.degrees(wave)
    _shape(image, [(x - 150, 720), (x - 36, 498), (x + 34, 510), (x - 30, 720)], SHIRT)
    _oval(image, x, y + 54, (46, 52), SKIN)
    for number, (angle, length) in enumerate(((-62, 66), (-24, 92), (-6, 100), (12, 94), (30, 78))):
        lean = math.radians(angle + turn * 0.6)
        bottom = (x + (number - 2) * 15, y + 36)
        middle = (bottom[0] + math.sin(lean) * length / 2, bottom[1] - math.cos(lean) * length / 2)
        _oval(image, *middle, (length / 2 + 8, 14), SKIN, math.degrees(lean) - 90)
