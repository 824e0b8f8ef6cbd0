"""Recorded bytes of stock nodes (tests/captures/*/README.md says which)."""

from __future__ import annotations

from pathlib import Path

CAPTURES = Path(__file__).parent.parent / "captures"


def captured(name: str) -> bytes:
    return (CAPTURES / name).read_bytes()


def captured_body(name: str) -> bytes:
    """The body of a recorded HTTP/1.1 message that is not chunked."""
    return captured(name).partition(b"\r\n\r\n")[2]
