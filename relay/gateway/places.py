"""Names of streams, and the network's addresses of one, under a base that clients reach."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from relay.errors import BadInput

NAME: Final = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9_.~-]{0,127}")


def check_name(name: str) -> str:
    """A name that a stream may have.

    Raises:
        BadInput: code ``bad_name``.
    """
    if not NAME.fullmatch(name) or name.endswith("-out"):
        raise BadInput(
            "a stream name has 1 to 128 of A-Z a-z 0-9 _ . ~ - and does not begin with a dot "
            "or end in -out",
            code="bad_name",
        )
    return name


def playback(base: str, name: str, request_id: str) -> str:
    """Where the output of one stream start plays (WHEP)."""
    return f"{base}/live/video-to-video/{quote(name)}-{request_id}-out/whep"


def update(base: str, name: str) -> str:
    return f"{base}/live/video-to-video/{quote(name)}/update"


def status(base: str, stream_id: str) -> str:
    """By the stream's id, not its name."""
    return f"{base}/live/video-to-video/{quote(stream_id, safe='')}/status"
