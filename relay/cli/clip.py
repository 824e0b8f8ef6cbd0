"""A clip made on the spot: moving pictures that carry their number in their pixels.

The number stands in a strip along the upper edge, as black and white cells with their
complement below each, between two guards that say which way round the picture is. It
survives scaling, compression, recolouring, inversion and mirroring, so that a frame that
went through a whole network can be told from its neighbours.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from relay.media.unit import VIDEO_CLOCK, AccessUnit

Image = NDArray[np.uint8]

WIDTH: Final = 1280
HEIGHT: Final = 720
FPS: Final = 30
BITRATE: Final = 2_000_000

NUMBER_BITS: Final = 16
CHECK_BITS: Final = 4
# Neither is the other's mirror or complement, so each of the four ways is told apart.
LEFT_GUARD: Final = (1, 0, 1, 1)
RIGHT_GUARD: Final = (1, 1, 0, 0)
CELLS: Final = len(LEFT_GUARD) + NUMBER_BITS + CHECK_BITS + len(RIGHT_GUARD)
STRIP: Final = 1 / 9
"""The strip's share of the height; half of it for the cells, half for their complement."""
MIN_CONTRAST: Final = 12.0

SOUND_RATE: Final = 48_000
TONE_HZ: Final = 440.0
PACKET_SAMPLES: Final = 960
"""20 ms, what browsers send."""


def cells_of(number: int) -> tuple[int, ...]:
    """The strip's cells from left to right, 1 for white."""
    number %= 1 << NUMBER_BITS
    word = number << CHECK_BITS | _check(number)
    bits = NUMBER_BITS + CHECK_BITS
    payload = tuple(word >> (bits - 1 - index) & 1 for index in range(bits))
    return LEFT_GUARD + payload + RIGHT_GUARD


def _check(number: int) -> int:
    """Four bits over the number (the remainder by a prime below 16)."""
    return number % 13


def draw(number: int, width: int = WIDTH, height: int = HEIGHT) -> Image:
    """Frame ``number`` of the clip, RGB, shape (height, width, 3)."""
    background = _background(width, height)
    shift = number * 4 % width
    image = np.ascontiguousarray(background[:, shift : shift + width])
    seconds = number / FPS
    centre = (
        int(width * (0.5 + 0.32 * np.sin(seconds * 1.3))),
        int(height * (0.55 + 0.25 * np.cos(seconds * 1.7))),
    )
    cv2.circle(image, centre, height // 8, (250, 210, 60), -1, cv2.LINE_AA)
    cv2.circle(image, centre, height // 8, (40, 30, 60), max(2, height // 120), cv2.LINE_AA)
    cv2.putText(
        image,
        f"{number:05d}",
        (width // 24, height - height // 16),
        cv2.FONT_HERSHEY_DUPLEX,
        height / 240,
        (255, 255, 255),
        max(2, height // 180),
        cv2.LINE_AA,
    )
    _stamp(image, number)
    return image


@cache
def _background(width: int, height: int) -> Image:
    """A slow wave of colours, twice as wide as a frame, so that it can drift by."""
    x = np.arange(2 * width, dtype=np.float32)[None, :] * (2 * np.pi / width)
    y = np.arange(height, dtype=np.float32)[:, None] / height
    planes = [
        70 + 55 * np.sin(x) + 60 * y,
        90 + 50 * np.sin(x + 2.1) + 40 * (1 - y),
        140 + 60 * np.sin(x + 4.2) - 30 * y,
    ]
    image: Image = np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)
    return image


def _edges(length: int) -> list[int]:
    return [round(index * length / CELLS) for index in range(CELLS + 1)]


def _stamp(image: Image, number: int) -> None:
    height, width = image.shape[:2]
    bottom = round(height * STRIP)
    middle = bottom // 2
    edges = _edges(width)
    for index, cell in enumerate(cells_of(number)):
        columns = slice(edges[index], edges[index + 1])
        image[:middle, columns] = 235 if cell else 16
        image[middle:bottom, columns] = 16 if cell else 235


def read(image: NDArray[np.uint8]) -> int | None:
    """The number in a frame, or None when there is none to be trusted.

    Args:
        image: RGB of shape (h, w, 3), or its luma of shape (h, w).
    """
    height, width = image.shape[:2]
    bottom = round(height * STRIP)
    middle = bottom // 2
    if width < 2 * CELLS or middle < 4:
        return None
    strip = image[:bottom].astype(np.float32)
    if strip.ndim == 3:
        strip = strip.mean(axis=2)
    edges = _edges(width)
    difference = np.empty(CELLS, np.float32)
    # Only the inner part of a cell counts: blur and blocks bleed over its edges.
    rows = middle // 4
    for index in range(CELLS):
        inset = (edges[index + 1] - edges[index]) // 4
        columns = slice(edges[index] + inset, edges[index + 1] - inset)
        upper = strip[rows : middle - rows, columns].mean()
        lower = strip[middle + rows : bottom - rows, columns].mean()
        difference[index] = upper - lower
    if np.abs(difference).min() < MIN_CONTRAST:
        return None
    return _number((difference > 0).astype(int).tolist())


def _number(cells: list[int]) -> int | None:
    for way in (cells, [1 - cell for cell in cells]):
        for turned in (way, way[::-1]):
            if (
                tuple(turned[: len(LEFT_GUARD)]) != LEFT_GUARD
                or tuple(turned[-len(RIGHT_GUARD) :]) != RIGHT_GUARD
            ):
                continue
            word = 0
            for cell in turned[len(LEFT_GUARD) : -len(RIGHT_GUARD)]:
                word = word << 1 | cell
            number = word >> CHECK_BITS
            if _check(number) == word & ((1 << CHECK_BITS) - 1):
                return number
    return None


def tone(first_sample: int, samples: int) -> NDArray[np.int16]:
    """A quiet tone that pulses once a second, shape (samples,), 48 kHz, mono."""
    t = (first_sample + np.arange(samples)) / SOUND_RATE
    level = 3000 * (0.6 + 0.4 * np.sin(2 * np.pi * t))
    wave: NDArray[np.int16] = (level * np.sin(2 * np.pi * TONE_HZ * t)).astype(np.int16)
    return wave


def encoded(
    seconds: float,
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
    bitrate: int = BITRATE,
    audio: bool = True,
) -> list[AccessUnit]:
    """The clip as access units in the order of their time, from 0: what a camera would send.

    H.264 baseline with a key frame every two seconds, and Opus.
    """
    # Here, so that who only draws and reads numbers needs no codec.
    from relay.worker.audio import opus_of
    from relay.worker.codec import Encoder
    from relay.worker.file import picture_of

    encoder = Encoder(bitrate, keyframe_interval=2.0)
    units: list[AccessUnit] = []
    for number in range(round(seconds * FPS)):
        pts = number * VIDEO_CLOCK // FPS
        unit = encoder.encode(picture_of(draw(number, width, height), "rgb24", pts))
        if unit is not None:
            units.append(unit)
    if audio:
        packets = int(seconds * SOUND_RATE) // PACKET_SAMPLES
        units += opus_of(tone(n * PACKET_SAMPLES, PACKET_SAMPLES) for n in range(packets))
    return sorted(units, key=lambda unit: unit.pts)
