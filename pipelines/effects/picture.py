"""A picture to show effects on: drawn, so that nobody has to ship one."""

from __future__ import annotations

import numpy as np

from pipelines.contract import Frame
from pipelines.effects.opencv import cv2


def sample_picture(width: int = 640, height: int = 360) -> Frame:
    """Somebody at a desk in the evening: a face, hair, lights, edges and soft ground.

    Returns:
        (height, width, 3), RGB.
    """
    big = np.zeros((720, 1280, 3), np.uint8)
    down = np.linspace(0, 1, 720, dtype=np.float32)[:, None, None]
    across = np.linspace(0, 1, 1280, dtype=np.float32)[None, :, None]
    top, bottom = np.array([38, 30, 74]), np.array([214, 108, 92])
    big[:] = top * (1 - down) + bottom * down + across * np.array([14, 34, 62])
    _lights(big)
    _person(big)
    picture: Frame = cv2.resize(big, (width, height), interpolation=cv2.INTER_AREA)
    return picture


def _lights(image: Frame) -> None:
    """A window on the left, a shelf on the right, and round lights out of focus."""
    glow = image.copy()
    rng = np.random.default_rng(21)
    colours = ((255, 190, 90), (90, 200, 255), (255, 110, 160), (150, 255, 190), (255, 240, 190))
    for number in range(34):
        centre = (int(rng.integers(0, 1280)), int(rng.integers(20, 560)))
        cv2.circle(glow, centre, int(rng.integers(10, 46)), colours[number % 5], -1, cv2.LINE_AA)
    image[:] = cv2.addWeighted(image, 0.62, cv2.GaussianBlur(glow, (0, 0), 5), 0.38, 0)
    cv2.rectangle(image, (70, 90), (330, 430), (246, 214, 150), -1)
    for line in (((200, 90), (200, 430)), ((70, 260), (330, 260))):
        cv2.line(image, *line, (92, 60, 54), 10, cv2.LINE_AA)
    cv2.rectangle(image, (70, 90), (330, 430), (92, 60, 54), 14, cv2.LINE_AA)
    books = ((196, 60, 62), (54, 128, 178), (232, 178, 60), (76, 160, 112), (150, 84, 168))
    left = 950
    for number in range(9):
        wide, high = 24 + number * 13 % 17, 120 + number * 37 % 60
        cv2.rectangle(image, (left, 330 - high), (left + wide, 330), books[number % 5], -1)
        left += wide + 4
    cv2.rectangle(image, (930, 330), (1240, 348), (98, 66, 52), -1)


def _person(image: Frame) -> None:
    skin, shade, hair, shirt = (226, 170, 138), (190, 128, 102), (58, 34, 30), (36, 128, 138)
    cv2.ellipse(image, (640, 780), (330, 300), 0, 180, 360, shirt, -1, cv2.LINE_AA)
    cv2.ellipse(image, (640, 790), (250, 285), 0, 180, 360, (46, 148, 156), -1, cv2.LINE_AA)
    cv2.ellipse(image, (640, 330), (186, 214), 0, 0, 360, hair, -1, cv2.LINE_AA)
    cv2.rectangle(image, (586, 470), (694, 560), shade, -1)
    cv2.ellipse(image, (640, 560), (54, 34), 0, 0, 360, shade, -1, cv2.LINE_AA)
    cv2.ellipse(image, (640, 366), (142, 172), 0, 0, 360, skin, -1, cv2.LINE_AA)
    cv2.ellipse(image, (700, 372), (78, 150), 0, 0, 360, (216, 158, 126), -1, cv2.LINE_AA)
    cv2.ellipse(image, (640, 236), (160, 84), 0, 180, 372, hair, -1, cv2.LINE_AA)
    for x in (582, 698):
        cv2.ellipse(image, (x, 350), (27, 15), 0, 0, 360, (250, 248, 244), -1, cv2.LINE_AA)
        cv2.circle(image, (x + 3, 350), 12, (66, 110, 74), -1, cv2.LINE_AA)
        cv2.circle(image, (x + 3, 350), 6, (18, 14, 14), -1, cv2.LINE_AA)
        cv2.ellipse(image, (x, 318), (36, 13), 0, 190, 350, hair, 7, cv2.LINE_AA)
    cv2.ellipse(image, (640, 410), (20, 12), 0, 10, 170, shade, 5, cv2.LINE_AA)
    cv2.ellipse(image, (640, 452), (52, 24), 0, 8, 172, (176, 62, 70), -1, cv2.LINE_AA)
    cv2.ellipse(image, (640, 452), (40, 10), 0, 8, 172, (250, 246, 240), -1, cv2.LINE_AA)
    for x in (494, 786):
        cv2.ellipse(image, (x, 372), (24, 46), 0, 0, 360, (210, 62, 74), -1, cv2.LINE_AA)
    cv2.ellipse(image, (640, 300), (168, 168), 0, 184, 356, (210, 62, 74), 16, cv2.LINE_AA)
