"""The token that an orchestrator of ours gives each side of a job for its channels.

An extension of ours: a field ``trickle_token`` beside the channels' addresses, which others
skip, and ``Authorization: Bearer`` with every trickle request (RFC 6750, 2.1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from relay.errors import BadInput

FIELD: Final = "trickle_token"
MAX_TOKEN: Final = 1024
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")


def token_of(fields: Mapping[str, Any]) -> str:
    """The token among the fields of a message; empty when there is none.

    Raises:
        BadInput: it cannot stand in a header. Its text does not have it.
    """
    token = fields.get(FIELD) or ""
    if token == "":
        return ""
    if not isinstance(token, str) or len(token) > MAX_TOKEN or _TOKEN.fullmatch(token) is None:
        raise BadInput(f"{FIELD} is no bearer token", code="bad_token")
    return token


def token_field(token: str) -> dict[str, str]:
    """What a message carries; nothing where there is no token, as stock nodes write it."""
    return {FIELD: token} if token else {}


def token_header(token: str) -> dict[str, str]:
    """What each trickle request carries."""
    return {"Authorization": f"Bearer {token}"} if token else {}
