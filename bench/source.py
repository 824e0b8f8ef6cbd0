"""The clip that all benches send: 720p30 at 2 Mbit/s, numbered in its pixels, with Opus of 50
packets a second, without end. ``--no-sound`` is the older form of many of them.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from relay.cli import clip
from relay.media.unit import VIDEO_CLOCK, AccessUnit

SECONDS = 20


def make_clip(seconds: int = SECONDS, *, audio: bool = True) -> list[AccessUnit]:
    """Encode the clip; takes about a tenth of its length."""
    return clip.encoded(seconds, audio=audio)


def endless(units: Sequence[AccessUnit], seconds: int = SECONDS) -> Iterator[AccessUnit]:
    """The clip over and over, with timestamps that go on."""
    for turn in itertools.count():
        for unit in units:
            yield replace(unit, pts=unit.pts + turn * seconds * VIDEO_CLOCK)


def has_sound(units: Sequence[AccessUnit]) -> bool:
    return not all(unit.is_video for unit in units)


def add_sound(parser: argparse.ArgumentParser) -> None:
    """The option ``sound``: on, unless ``--no-sound`` is said."""
    parser.add_argument(
        "--no-sound",
        dest="sound",
        action="store_false",
        help="pictures only, as the figures that are told without sound",
    )


def words_of(sound: bool) -> tuple[str, ...]:
    """What a process is told that takes that option."""
    return () if sound else ("--no-sound",)
