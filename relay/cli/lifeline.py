"""The line between ``relay up`` and a role that it runs: one socket pair, JSON lines.

Down it goes one line, the settings. Up come ``{"listening": {...}}``, ``{"ready": true}``
and, when a signal asks it to end, ``{"asked": true}``; or ``{"failed": "why"}``. A child whose
line ends has lost its parent and ends too.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any, Final

from relay.errors import ConfigError, ParseError

MAX_LINE: Final = 1 << 20
_PR_SET_PDEATHSIG: Final = 1


class ChildLine:
    """The child's end."""

    def __init__(self, fd: int) -> None:
        try:
            self._socket = socket.socket(fileno=fd)
        except OSError as error:
            raise ConfigError(f"--supervised is for relay up: {fd} is no socket") from error
        die_with_parent()

    def receive(self) -> dict[str, Any]:
        """Wait for the settings; ends the process when the parent is gone before it sent them."""
        received = bytearray()
        while not received.endswith(b"\n"):
            part = self._socket.recv(65536)
            if not part or len(received) > MAX_LINE:
                sys.exit(1)
            received += part
        value: dict[str, Any] = json.loads(received)
        return value

    def send(self, message: Mapping[str, Any]) -> None:
        """Tell the parent; a parent that is gone is noticed by ``ended``."""
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return

    async def ended(self) -> None:
        """Return once the parent has closed its end, or died."""
        self._socket.setblocking(False)
        loop = asyncio.get_running_loop()
        while await loop.sock_recv(self._socket, 4096):
            pass

    def close(self) -> None:
        self._socket.close()


class ParentLine:
    """The parent's end."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self._socket = ours
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Call once the child has inherited its end, which is closed here."""
        self.theirs.close()
        self._reader, self._writer = await asyncio.open_connection(
            sock=self._socket, limit=MAX_LINE
        )

    async def send(self, message: Mapping[str, Any]) -> None:
        """Raises OSError when the child is gone."""
        assert self._writer is not None
        self._writer.write(json.dumps(message).encode() + b"\n")
        await self._writer.drain()

    async def receive(self) -> dict[str, Any] | None:
        """The next message, or None once the child's end is closed."""
        assert self._reader is not None
        try:
            line = await self._reader.readline()
        except (OSError, ValueError):
            return None
        if not line:
            return None
        try:
            message = json.loads(line)
        except ValueError as error:
            raise ParseError("a role sent a line that is not JSON") from error
        return message if isinstance(message, dict) else None

    def close(self) -> None:
        self.theirs.close()
        if self._writer is None:
            self._socket.close()
        else:
            self._writer.close()


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, however it dies."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it died between the two calls
        os.kill(os.getpid(), signal.SIGKILL)
