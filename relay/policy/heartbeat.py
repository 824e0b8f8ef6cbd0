"""The heartbeat: which streams live, told to the operator's service, and which it wants ended.

Values only; ``relay/gateway/heartbeat.py`` does the telling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from relay.errors import PeerError

TERMINATED: Final = "stream terminated: credit_exhaustion"
"""Why a stream that the service wants ended is ended; the network's words."""


def body(ids: Iterable[str]) -> bytes:
    """``{"ids": [...]}``; null when nothing lives, as stock gateways write it."""
    return orjson.dumps({"ids": sorted(set(ids)) or None})


def terminated(fields: Mapping[str, Any]) -> frozenset[str]:
    """The ids of the streams that must end.

    Raises:
        PeerError: code ``heartbeat_answer``: it is no list of texts.
    """
    ids = fields.get("terminatedStreamIds")
    if ids is None:
        return frozenset()
    if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
        raise PeerError("terminatedStreamIds is no list of ids", code="heartbeat_answer")
    return frozenset(ids)
