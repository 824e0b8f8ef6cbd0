"""The network's addresses of one stream, under a base that clients reach."""

from __future__ import annotations

from urllib.parse import quote


def playback(base: str, name: str, request_id: str) -> str:
    """Where the output of one stream start plays (WHEP)."""
    return f"{base}/live/video-to-video/{quote(name)}-{request_id}-out/whep"


def update(base: str, name: str) -> str:
    return f"{base}/live/video-to-video/{quote(name)}/update"


def status(base: str, stream_id: str) -> str:
    """By the stream's id, not its name."""
    return f"{base}/live/video-to-video/{quote(stream_id, safe='')}/status"
