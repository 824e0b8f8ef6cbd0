"""Addresses that a role cannot listen on, told by the keys that set them."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from relay.config import Settings
from relay.errors import RelayError, Unavailable

IN_USE: Final = "is in use"
# Of these, a file's error names a file and a socket's does not.
_OF_ADDRESSES = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES})


@contextmanager
def listening(
    transport: str, host: str, port: int, key: str, *, code: str | None = None
) -> Iterator[None]:
    """Around the start of what listens on ``host`` and ``port``.

    Args:
        code: of the error that is about this address, where there is more than one.

    Raises:
        Unavailable: ``address``, in place of whatever was raised because the address
            cannot be had; all else passes as it is.
    """
    try:
        yield
    except (RelayError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        why = _why(cause)
        other = code is not None and getattr(error, "code", None) != code
        if why is None or other:
            raise
        raise Unavailable(_words(transport, host, port, key, why), code="address") from error


def refuse_taken(settings: Settings, role: str | None = None) -> None:
    """
    Args:
        role: the one that is started alone; None: ``relay up`` starts all of them.

    Raises:
        Unavailable: ``address``: others have ports of these; all of them are named, and what
            takes free ones.
    """
    gateway, rtc = settings.gateway, settings.gateway.webrtc
    wanted = (
        ("TCP", gateway.host, gateway.port, "gateway.port"),
        ("UDP", rtc.host, rtc.port, "gateway.webrtc.port"),
        ("TCP", rtc.host, rtc.tcp_port or 0, "gateway.webrtc.tcp_port"),
        ("TCP", settings.orchestrator.host, settings.orchestrator.port, "orchestrator.port"),
        ("TCP", settings.worker.host, settings.worker.port, "worker.port"),
    )
    ours = [each for each in wanted if role in (None, each[3].partition(".")[0])]
    taken = [each for each in ours if each[2] and _is_taken(*each[:3])]
    if taken:
        told = "; ".join(_words(*each, IN_USE) for each in taken)
        short = f"{role or 'gateway'}.port"  # what ``--port`` is short for
        free = " ".join("--port 0" if key == short else f"--set {key}=0" for *_, key in taken)
        raise Unavailable(f"{told}; for free ones: {free}", code="address")


def _is_taken(transport: str, host: str, port: int) -> bool:
    """Whether it is in use. Whatever else is wrong with it the role itself tells."""
    kind = socket.SOCK_STREAM if transport == "TCP" else socket.SOCK_DGRAM
    try:
        found = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in found:
            with socket.socket(family, kind) as probe:
                if kind is socket.SOCK_STREAM:  # as the role does: a former one's connections
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    except UnicodeError:  # a name that is none
        return False
    return False


def _words(transport: str, host: str, port: int, key: str, why: str) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{transport} {shown}:{port} {why} ({key})"


def _why(cause: BaseException | None) -> str | None:
    if isinstance(cause, socket.gaierror):
        return f"cannot be listened on: {cause.strerror}"
    if not isinstance(cause, OSError) or cause.filename is not None:
        return None
    if cause.errno not in _OF_ADDRESSES:
        return None
    if cause.errno == errno.EADDRINUSE:
        return IN_USE
    return f"cannot be listened on: {os.strerror(cause.errno)}"
