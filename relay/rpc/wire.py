"""Bytes to protobuf messages and back, with our own errors at the edge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from relay.errors import BadInput, ParseError

MAX_MESSAGE: Final = 1 << 20
"""Bytes of the largest message that is read from, or sent to, another node."""

M = TypeVar("M", bound=Message)


def decode(kind: type[M], data: bytes) -> M:
    """Read one message.

    Raises:
        ParseError: ``data`` is not such a message, or longer than ``MAX_MESSAGE``.
    """
    name = kind.__name__
    if len(data) > MAX_MESSAGE:
        raise ParseError(f"{name} of {len(data)} bytes is over {MAX_MESSAGE}")
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ParseError(f"these bytes are no {name}: {error}") from error
    return message


def encode(build: Callable[[], Message]) -> bytes:
    """Write what ``build`` makes; map entries come in a fixed order.

    Raises:
        BadInput: a value does not fit its field (out of range, or text that is not
            valid Unicode).
    """
    try:
        return build().SerializeToString(deterministic=True)
    except ValueError as error:
        raise BadInput(f"a value does not fit its field: {error}") from error
