"""What the receive side of a video stream hands on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from relay.media.h264 import Sps


class Picture(NamedTuple):
    """One whole access unit of H.264.

    Attributes:
        annexb: with the parameter sets in front when it is a key frame.
        timestamp: as in its packets, 32 bits.
        sps: of a key frame, when its parameter set could be read.
    """

    annexb: bytes
    timestamp: int
    arrival: float
    keyframe: bool
    sps: Sps | None


class Poll(NamedTuple):
    """What the owner is to do: pass pictures on, and ask the sender for the rest.

    Attributes:
        nack: sequence numbers to ask for, as they stand in packets.
        keyframe: whether a key frame is to be asked for.
    """

    pictures: Sequence[Picture]
    nack: tuple[int, ...]
    keyframe: bool


class Standing(NamedTuple):
    """How far a stream is, for whoever passes its pictures on from there.

    Attributes:
        pts: of the last picture, on the publisher's line.
        pts_timestamp: as in its packets, 32 bits.
        arrival: of it.
        budget: pictures that may yet be passed on, see ``budget.Budget.state``.
        front: see ``ParameterSets.front``.
    """

    pts: int
    pts_timestamp: int
    arrival: float
    budget: tuple[float, float]
    front: tuple[bytes, int, int] | None = None


class Run(NamedTuple):
    """Packets in order, without a hole, that made whole access units elsewhere.

    Attributes:
        octets: of their payloads.
        jitter, measured: see ``reception.Reception``.
        pictures: those of the units that were passed on there.
        standing: after the last of them; None where there was none.
        keyframe_at: arrival of the last key frame among them; 0: there was none.
    """

    packets: int
    octets: int
    jitter: float
    measured: tuple[int, float]
    pictures: int = 0
    standing: Standing | None = None
    keyframe_at: float = 0.0
