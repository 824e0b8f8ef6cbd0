"""What was left out since a connection was too slow, in numbers. Pure: ``now`` is monotonic."""

from __future__ import annotations

from typing import Final

from relay.gateway.status import Caution

SHOWN: Final = 30.0
"""Seconds after the last drop for which it is told as a warning."""


class Drops:
    """Of one publisher's stream, over all its sessions.

    Attributes:
        pictures: of the input, left out in all.
        segments: of the output, of which the rest was left.
    """

    def __init__(self) -> None:
        self.pictures = 0
        self.segments = 0
        self._why = ""
        self._input_at: float | None = None
        self._output_at: float | None = None

    def input(self, pictures: int, why: str, now: float) -> str:
        """Pictures of the input were left out; what to say of it."""
        self.pictures += pictures
        self._why, self._input_at = why, now
        return f"dropped {pictures} pictures: {why}"

    def output(self, now: float) -> None:
        """The rest of an output segment was left."""
        self.segments += 1
        self._output_at = now

    def cautions(self, now: float) -> tuple[Caution, ...]:
        """What happened lately."""
        told = []
        if self._input_at is not None and now - self._input_at <= SHOWN:
            words = f"dropped {self.pictures} pictures since the stream began: {self._why}"
            told.append(Caution("input_dropped", words))
        if self._output_at is not None and now - self._output_at <= SHOWN:
            words = f"the rest of {self.segments} output segments was left: they come too slowly"
            told.append(Caution("output_left", words))
        return tuple(told)
