"""OpenCV, by one door: single-threaded, and without its stubs, which know no uint8 arrays."""

from __future__ import annotations

from typing import Any

import cv2 as _cv2

cv2: Any = _cv2
cv2.setNumThreads(1)
