"""Pictures of the effects for the studio's tiles: ``python -m tests.api.thumbnails``.

Made once and committed; the gateway serves them and never makes a picture itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.effects import Effects, preview
from tests import scene

FOLDER: Final = Path(__file__).resolve().parents[2] / "relay/api/web/effects"
SIZE: Final = (224, 140)  # twice a tile, for dense screens
MOMENT: Final = 0.8  # of the scene, in seconds
PART: Final = (slice(70, 670), slice(160, 1120))  # rows and columns around the face


def picture(effect: str) -> NDArray[np.uint8]:
    """The drawn scene through an effect at its defaults, BGR."""
    whole = preview(effect, scene.draw(MOMENT))
    part = cv2.resize(whole[PART], SIZE, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(part, cv2.COLOR_RGB2BGR), np.uint8)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.webp"):
        old.unlink()
    index = {}
    for effect in Effects.schema["properties"]["effect"]["enum"]:
        cv2.imwrite(str(FOLDER / f"{effect}.webp"), picture(effect), [cv2.IMWRITE_WEBP_QUALITY, 72])
        index[effect] = f"/web/effects/{effect}.webp"
    (FOLDER / "index.json").write_text(json.dumps({"effects": index}, indent=2) + "\n")


if __name__ == "__main__":
    main()
