"""A contact sheet: frames before, above the same frames after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from relay.cli.clip import Image
from relay.errors import BadInput

COLUMNS: Final = 5
THUMB: Final = (320, 180)
MARGIN: Final = 12
LABEL: Final = 34
PAPER: Final = (24, 22, 20)
INK: Final = (235, 232, 228)


def contact_sheet(before: Sequence[Image], after: Sequence[Image], words: Sequence[str]) -> Image:
    """
    Args:
        before: RGB pictures.
        after: as many, of the same frames.
        words: what is written above the two rows.

    Returns:
        One RGB picture.
    """
    sheet_width = MARGIN + len(before) * (THUMB[0] + MARGIN)
    rows = [_row(pictures, sheet_width) for pictures in (before, after)]
    labels = [_label(text, sheet_width) for text in words]
    bottom = np.full((MARGIN, sheet_width, 3), PAPER, np.uint8)
    sheet: Image = np.vstack([labels[0], rows[0], labels[1], rows[1], bottom])
    return sheet


def _row(pictures: Sequence[Image], sheet_width: int) -> Image:
    width, height = THUMB
    row = np.full((height, sheet_width, 3), PAPER, np.uint8)
    for index, picture in enumerate(pictures):
        left = MARGIN + index * (width + MARGIN)
        scale = min(width / picture.shape[1], height / picture.shape[0])
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        x, y = left + (width - size[0]) // 2, (height - size[1]) // 2
        row[y : y + size[1], x : x + size[0]] = small
    return row


def _label(text: str, sheet_width: int) -> Image:
    strip = np.full((LABEL, sheet_width, 3), PAPER, np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(strip, text, (MARGIN, LABEL - 11), font, 0.55, INK, 1, cv2.LINE_AA)
    return strip


def write_png(path: Path, image: Image) -> None:
    """Raises BadInput when the place cannot be written."""
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    try:
        if not done:
            raise OSError("the picture cannot be encoded")
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error}") from error


def spread(count: int, columns: int = COLUMNS) -> list[int]:
    """Up to ``columns`` indexes, evenly over ``count``, neither the first nor the last."""
    columns = min(columns, count)
    return [int((index + 0.5) * count / columns) for index in range(columns)]
