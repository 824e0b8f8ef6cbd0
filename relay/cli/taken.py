"""An address that a role cannot listen on, told by the key that sets it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from relay.errors import RelayError, Unavailable

# Of these, a file's error names a file and a socket's does not.
_OF_ADDRESSES = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES})


@contextmanager
def listening(transport: str, host: str, port: int, key: str) -> Iterator[None]:
    """Around the start of what listens on ``host`` and ``port``.

    Raises:
        Unavailable: ``address``, in place of whatever was raised because the address
            cannot be had; all else passes as it is.
    """
    try:
        yield
    except (RelayError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        why = _why(cause)
        if why is None:
            raise
        shown = f"[{host}]" if ":" in host else host
        raise Unavailable(f"{transport} {shown}:{port} {why} ({key})", code="address") from error


def _why(cause: BaseException | None) -> str | None:
    if isinstance(cause, socket.gaierror):
        return f"cannot be listened on: {cause.strerror}"
    if not isinstance(cause, OSError) or cause.filename is not None:
        return None
    if cause.errno not in _OF_ADDRESSES:
        return None
    if cause.errno == errno.EADDRINUSE:
        return "is in use"
    return f"cannot be listened on: {os.strerror(cause.errno)}"
