"""Names and numbers that arrive in trickle addresses. Pure."""

from __future__ import annotations

import re
from typing import Final

from relay.errors import BadInput

LATEST: Final = -1
"""The sequence number that asks for the segment that has not begun yet."""

CURRENT: Final = -2
"""The sequence number that asks for the segment begun most recently."""

MAX_SEQUENCE: Final = 2**63 - 2
"""The last number whose successor still fits the 64-bit integers of the network's nodes."""

MAX_NAME: Final = 128

_NAME = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9_.~-]*")
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_MIME = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,126}")
_DEFAULT_MIME = "application/octet-stream"


def is_name(name: str) -> bool:
    """Whether ``name`` may name a channel: 1 to 128 of ``A-Za-z0-9_.~-``, no leading dot."""
    return len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """Return ``name``.

    Raises:
        BadInput: it may not name a channel.
    """
    if not is_name(name):
        raise BadInput("Invalid channel name", code="bad_channel_name")
    return name


def parse_sequence(text: str) -> int:
    """Read a whole number of ``LATEST``, ``CURRENT`` or 0 to ``MAX_SEQUENCE``.

    Raises:
        BadInput: it is no integer, or one that names no segment.
    """
    if _INTEGER.fullmatch(text) is None:
        raise BadInput("Invalid idx", code="bad_sequence")
    value = int(text)
    if not CURRENT <= value <= MAX_SEQUENCE:
        raise BadInput("Invalid idx", code="bad_sequence")
    return value


def parse_write_sequence(text: str) -> int:
    """Read the number of a POST: ``LATEST``, or 0 to ``MAX_SEQUENCE``.

    Raises:
        BadInput: it is no integer, or one that nothing can be written to.
    """
    value = parse_sequence(text)
    if value < LATEST:
        raise BadInput("Invalid idx", code="bad_sequence")
    return value


def parse_exact_sequence(text: str) -> int:
    """Read the number of a segment that exists: 0 to ``MAX_SEQUENCE``.

    Raises:
        BadInput: it is no integer, or negative.
    """
    value = parse_sequence(text)
    if value < 0:
        raise BadInput("Invalid idx", code="bad_sequence")
    return value


def header_sequence(text: str | None) -> int | None:
    """Read ``Lp-Trickle-Seq`` or ``Lp-Trickle-Latest`` of a peer; None when it makes no sense."""
    if text is None or _INTEGER.fullmatch(text) is None:
        return None
    value = int(text)
    return value if 0 <= value <= MAX_SEQUENCE + 1 else None


def clean_mime(mime: str | None) -> str:
    """Return ``mime`` when it can stand in a header, else the type of unknown bytes."""
    if mime is None or _MIME.fullmatch(mime) is None:
        return _DEFAULT_MIME
    return mime
