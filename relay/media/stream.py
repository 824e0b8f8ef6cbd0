"""One publisher, many readers, and the current group of pictures."""

from __future__ import annotations

import dataclasses
from typing import Final, TypedDict, Unpack

from relay.media.h264 import ParameterSets, Sps
from relay.media.queue import FrameQueue
from relay.media.unit import VIDEO_CLOCK, AccessUnit

MAX_GROUP_SECONDS: Final = 10.0
MAX_GROUP_BYTES: Final = 8 << 20
MAX_GROUP_UNITS: Final = 2400
"""10 s of 120 pictures and of 100 audio packets a second fit."""


class Bounds(TypedDict, total=False):
    """What FrameQueue may be given."""

    max_units: int
    max_bytes: int
    max_age: float | None


class Stream:
    """Hands each unit of a publisher to every reader's own queue.

    Key frames leave with their parameter sets in front, whether the publisher repeats them
    or not. The units since the last key frame are kept, so that a reader may start at once;
    a group that grows over its bounds is forgotten until the next key frame.

    Attributes:
        sps: of the last key frame whose parameter sets are known, else None.
    """

    def __init__(self) -> None:
        self.sps: Sps | None = None
        self._sets = ParameterSets()
        self._queues: dict[FrameQueue, None] = {}
        self._group: list[AccessUnit] = []
        self._group_bytes = 0
        self._closed = False

    @property
    def readers(self) -> int:
        return len(self._queues)

    def publish(self, unit: AccessUnit) -> None:
        """Give the unit to all readers. Never waits; after close() nothing happens."""
        if self._closed:
            return
        if unit.is_video:
            payload, sps = self._sets.apply(unit.payload)
            self.sps = sps or self.sps
            if payload is not unit.payload:
                unit = dataclasses.replace(unit, payload=payload)
        self._keep(unit)
        for queue in self._queues:
            queue.put(unit)

    def subscribe(self, *, from_group: bool = False, **bounds: Unpack[Bounds]) -> FrameQueue:
        """A queue of one's own, bounded as FrameQueue says.

        Its video starts at the next key frame; with ``from_group`` at the kept one, when
        there is one and the group fits the queue. Give it back with unsubscribe().
        """
        queue = FrameQueue(from_keyframe=True, **bounds)
        if from_group:
            queue.seed(self._group)
        if self._closed:
            queue.close()
        else:
            self._queues[queue] = None
        return queue

    def unsubscribe(self, queue: FrameQueue) -> None:
        """Close a queue and forget it; one that is not known is only closed."""
        self._queues.pop(queue, None)
        queue.close()

    def group(self) -> list[AccessUnit]:
        """The units since the last key frame, it first; empty when over the bounds."""
        return list(self._group)

    def close(self) -> None:
        """The publisher is gone: readers get what they have queued, then QueueClosed."""
        self._closed = True
        self._group.clear()
        for queue in self._queues:
            queue.close()
        self._queues.clear()

    def _keep(self, unit: AccessUnit) -> None:
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
            or abs(unit.pts - group[0].pts) > MAX_GROUP_SECONDS * VIDEO_CLOCK
        ):
            group.clear()
