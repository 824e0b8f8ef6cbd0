"""What a publisher sends, and the current group of pictures of it."""

from __future__ import annotations

import dataclasses
from typing import Final

from relay.media.h264 import PLAIN, ParameterSets, Sps
from relay.media.unit import VIDEO_CLOCK, AccessUnit

MAX_GROUP_SECONDS: Final = 10.0
MAX_GROUP_TICKS: Final = int(MAX_GROUP_SECONDS * VIDEO_CLOCK)
MAX_GROUP_BYTES: Final = 8 << 20
MAX_GROUP_UNITS: Final = 2400
"""10 s of 120 pictures and of 100 audio packets a second fit."""


class Stream:
    """Keeps the units since the last key frame, so that a job may start from them at once.

    Key frames are kept with their parameter sets in front, whether the publisher repeats
    them or not. A group that grows over its bounds is forgotten until the next key frame.

    Attributes:
        sps: of the last key frame whose parameter sets are known, else None.
    """

    def __init__(self) -> None:
        self.sps: Sps | None = None
        self._sets = ParameterSets()
        self._group: list[AccessUnit] = []
        self._group_bytes = 0
        self._closed = False

    def publish(self, unit: AccessUnit) -> None:
        """Keep the unit. Never waits; after close() nothing happens."""
        if self._closed:
            return
        if unit.is_video and not unit.payload.startswith(PLAIN):
            payload, sps = self._sets.apply(unit.payload)
            self.sps = sps or self.sps
            if payload is not unit.payload:
                unit = dataclasses.replace(unit, payload=payload)
        group = self._group
        if unit.keyframe:
            group.clear()
            self._group_bytes = 0
        elif not group:
            return
        group.append(unit)
        self._group_bytes += len(unit.payload)
        if (
            len(group) > MAX_GROUP_UNITS
            or self._group_bytes > MAX_GROUP_BYTES
            or abs(unit.pts - group[0].pts) > MAX_GROUP_TICKS
        ):
            group.clear()

    def group(self) -> list[AccessUnit]:
        """The units since the last key frame, it first; empty when over the bounds."""
        return list(self._group)

    def close(self) -> None:
        """The publisher is gone: nothing is kept any more."""
        self._closed = True
        self._group.clear()
