"""A server of a bench, with a clip of a second: ``python -m tests.bench.short MODULE WORDS``."""

from __future__ import annotations

import runpy
import sys

from bench import source
from relay.cli import clip
from relay.media.unit import AccessUnit

SECONDS = 1


def make_clip(seconds: int = SECONDS, *, audio: bool = True) -> list[AccessUnit]:
    return clip.encoded(seconds, width=320, height=180, audio=audio)


if __name__ == "__main__":
    source.SECONDS = SECONDS
    source.make_clip = make_clip
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
