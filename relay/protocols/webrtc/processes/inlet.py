"""What the gateway's native code hands on to another process by: a socket pair beside the link.

One message is one datagram of a peer there, with the address it came from in front of it
(``native/far.c``). Where there is no native part the link carries them.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final

from relay.protocols.webrtc.udp import UdpPort

BUFFER: Final = 1 << 20
"""Bytes that wait for the process; beyond that datagrams are dropped, as a full socket does."""

NONE: Final = -1


class Inlet:
    """The gateway's end, and until the process has it, that of the process."""

    def __init__(self, udp: UdpPort) -> None:
        self._ours: socket.socket | None = None
        self._theirs: socket.socket | None = None
        if udp.native is None:
            return
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(OSError):
            self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)

    @property
    def ours(self) -> int:
        return NONE if self._ours is None else self._ours.fileno()

    @property
    def theirs(self) -> int:
        return NONE if self._theirs is None else self._theirs.fileno()

    @property
    def passed(self) -> tuple[int, ...]:
        """What the process inherits."""
        return () if self._theirs is None else (self._theirs.fileno(),)

    def given(self) -> None:
        """The process has its end."""
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None

    def close(self) -> None:
        self.given()
        if self._ours is not None:
            self._ours.close()
            self._ours = None
