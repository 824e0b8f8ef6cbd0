"""What a gateway may write on the control channel. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from relay.worker.parameters import parse_object

_KEEPALIVE: Final = {"keep": "alive"}
_KEYFRAME: Final = {"relay": "keyframe"}


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Only says that the gateway is there."""


@dataclass(frozen=True, slots=True)
class KeyframeWanted:
    """The next picture is to be a key frame; an extension of ours."""


@dataclass(frozen=True, slots=True)
class Change:
    """New parameters."""

    params: dict[str, Any]


def parse_control(data: bytes) -> Keepalive | KeyframeWanted | Change | None:
    """None for an empty segment, which is how a publisher's preconnected POST may end.

    Raises:
        BadInput: not one JSON object of at most 32 KiB.
    """
    if not data.strip():
        return None
    fields = parse_object(data)
    if fields == _KEEPALIVE:
        return Keepalive()
    if fields == _KEYFRAME:
        return KeyframeWanted()
    return Change(fields)
