from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from relay.cli import clip, sheet
from relay.errors import BadInput


def test_before_stands_above_after(tmp_path: Path) -> None:
    before = [clip.draw(number) for number in range(5)]
    after = [np.full((720, 1280, 3), 200, np.uint8)] * 5
    path = tmp_path / "sheet.png"
    sheet.write_png(path, sheet.contact_sheet(before, after, ["before", "after"]))
    image = cv2.imread(str(path))
    assert image is not None
    height, width = sheet.THUMB[1], sheet.THUMB[0]
    top = sheet.LABEL
    low = 2 * sheet.LABEL + height
    for index in range(5):
        left = sheet.MARGIN + index * (width + sheet.MARGIN)
        upper = image[top : top + height, left : left + width].astype(np.uint8)
        assert clip.read(np.ascontiguousarray(upper[:, :, ::-1])) == index
        assert (image[low : low + height, left : left + width] == 200).all()


def test_an_upright_picture_fits_too() -> None:
    pictures = [np.full((1280, 720, 3), 200, np.uint8)]
    made = sheet.contact_sheet(pictures, pictures, ["before", "after"])
    row = made[sheet.LABEL + 90]
    assert (row == 200).all(axis=1).sum() == round(180 * 720 / 1280)


def test_frames_are_taken_from_all_over() -> None:
    assert sheet.spread(100) == [10, 30, 50, 70, 90]
    assert sheet.spread(2) == [0, 1]
    assert sheet.spread(0) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="written"):
        sheet.write_png(tmp_path / "no" / "sheet.png", clip.draw(0))
