"""The clip that all benches send: 720p30 at 2 Mbit/s, numbered in its pixels, without end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from relay.cli import clip
from relay.media.unit import VIDEO_CLOCK, AccessUnit

SECONDS = 20


def make_clip(seconds: int = SECONDS, *, audio: bool = False) -> list[AccessUnit]:
    """Encode the clip; takes about a tenth of its length."""
    return clip.encoded(seconds, audio=audio)


def endless(units: Sequence[AccessUnit], seconds: int = SECONDS) -> Iterator[AccessUnit]:
    """The clip over and over, with timestamps that go on."""
    for turn in itertools.count():
        for unit in units:
            yield replace(unit, pts=unit.pts + turn * seconds * VIDEO_CLOCK)


def pictures(units: Sequence[AccessUnit], seconds: int = SECONDS) -> Iterator[AccessUnit]:
    """The same without the sound."""
    return (unit for unit in endless(units, seconds) if unit.is_video)
