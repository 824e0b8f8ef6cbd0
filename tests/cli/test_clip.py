from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cli.clip import HEIGHT, LEFT_GUARD, RIGHT_GUARD, WIDTH, Image, cells_of, draw, read


@pytest.mark.parametrize("number", [0, 1, 299, 300, 0x5555, 0xAAAA, 0xFFFF])
@pytest.mark.parametrize(("width", "height"), [(1280, 720), (640, 360), (720, 1280), (320, 240)])
def test_a_drawn_number_is_read_back(number: int, width: int, height: int) -> None:
    image = draw(number, width, height)
    assert image.shape == (height, width, 3)
    assert read(image) == number


@given(st.integers(0, 0xFFFF))
def test_no_number_looks_like_another_turned_round(number: int) -> None:
    cells = cells_of(number)
    others = ([1 - cell for cell in cells], list(cells[::-1]), [1 - cell for cell in cells[::-1]])
    for turned in others:
        guards = tuple(turned[: len(LEFT_GUARD)]), tuple(turned[-len(RIGHT_GUARD) :])
        assert guards != (LEFT_GUARD, RIGHT_GUARD)


def _inverted(image: Image) -> Image:
    return 255 - image


def _mirrored(image: Image) -> Image:
    return np.ascontiguousarray(image[:, ::-1])


def _grey(image: Image) -> Image:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.uint8)


def _blurred(image: Image) -> Image:
    return cv2.GaussianBlur(image, (15, 15), 0).astype(np.uint8)


def _halved(image: Image) -> Image:
    size = (WIDTH // 2, HEIGHT // 2)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def _pixelated(image: Image) -> Image:
    small = cv2.resize(image, (WIDTH // 16, HEIGHT // 16), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST).astype(np.uint8)


def _compressed(image: Image) -> Image:
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 15])
    assert done
    back = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert back is not None
    return back.astype(np.uint8)


@pytest.mark.parametrize(
    "change", [_inverted, _mirrored, _grey, _blurred, _halved, _pixelated, _compressed]
)
def test_the_number_survives(change: object) -> None:
    assert callable(change)
    for number in (7, 1234, 60000):
        assert read(change(draw(number))) == number


def test_a_picture_without_a_number_has_none() -> None:
    assert read(np.full((HEIGHT, WIDTH, 3), 128, np.uint8)) is None
    assert read(np.zeros((8, 8, 3), np.uint8)) is None
    image = draw(42)
    image[:40] = draw(43)[:40]
    assert read(image) is None


@given(st.integers(0, 2**32 - 1))
def test_noise_is_hardly_ever_a_number(seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (120, 160), np.uint8)
    assert read(noise) is None


def test_neighbours_differ() -> None:
    assert np.abs(draw(10).astype(int) - draw(11)).mean() > 0.5
