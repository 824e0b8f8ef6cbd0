"""Both ends of the pipe between a slot's parent and its child."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from relay.errors import ParseError, PeerError
from relay.worker.messages import MAX_LINE, Beat, LogLine, Message, parse, serialise

MAX_UNREAD: Final = 2 << 20
"""Bytes that wait for the other side; it is taken for dead when there are more."""

MAX_UNREAD_CHATTER: Final = 64 << 10
"""Signs of life and log lines are left out beyond this."""


class Pipe:
    """One end. A message is a line; a line that is too long or unknown ends the pipe."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> Pipe:
        end.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=end, limit=MAX_LINE)
        return cls(reader, writer)

    def send(self, message: Message) -> None:
        """Never blocks.

        Raises:
            PeerError: the other side reads no more.
        """
        waiting = self._writer.transport.get_write_buffer_size()
        if isinstance(message, Beat | LogLine) and waiting > MAX_UNREAD_CHATTER:
            return
        if waiting > MAX_UNREAD:
            raise PeerError("the other end of the pipe reads no more", code="pipe")
        if not self._writer.is_closing():
            self._writer.write(serialise(message))

    async def receive(self) -> Message | None:
        """The next message; None when the other end is gone.

        Raises:
            ParseError: it is not one of ours.
        """
        try:
            line = await self._reader.readline()
        except ValueError as error:
            raise ParseError("a line without an end") from error
        except ConnectionError:
            return None
        return parse(line) if line.endswith(b"\n") else None

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return
