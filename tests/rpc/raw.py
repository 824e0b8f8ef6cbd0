"""A client of bare `h2`, for what a proper one would not send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import h2.config
import h2.connection
import h2.events

from relay.rpc.grpc import frame

PING_HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/net.Orchestrator/Ping"),
    (":authority", "x"),
    ("content-type", "application/grpc"),
]
HANG = {":path": "/net.Orchestrator/Hang"}
BIG = {":path": "/net.Orchestrator/Big"}


class Raw:
    """One connection; what the server sends is kept as events."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=True,
                header_encoding="utf-8",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.events: list[h2.events.Event] = []

    async def start(self) -> None:
        self.h2.initiate_connection()
        await self.flush()

    def request(self, headers: dict[str, str] | None = None, *, end: bool = True) -> int:
        stream = self.h2.get_next_available_stream_id()
        fields = {**dict(PING_HEADERS), **(headers or {})}
        self.h2.send_headers(stream, list(fields.items()), end_stream=end)
        return stream

    async def call(self, body: bytes = b"fine", headers: dict[str, str] | None = None) -> int:
        """Send a whole call, whose answer is not waited for."""
        stream = self.request(headers, end=False)
        self.h2.send_data(stream, frame(body), end_stream=True)
        await self.flush()
        return stream

    async def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def until(self, enough: Callable[[list[h2.events.Event]], bool]) -> None:
        """Read until the events suffice, or the server closes."""
        async with asyncio.timeout(8):
            while not enough(self.events):
                data = await self.reader.read(65536)
                if not data:
                    return
                self.events += self.h2.receive_data(data)
                await self.flush()

    async def settled(self) -> None:
        """Read until both sides have taken each other's settings."""
        for kind in (h2.events.RemoteSettingsChanged, h2.events.SettingsAcknowledged):
            await self.until(lambda events: any(isinstance(e, kind) for e in events))  # noqa: B023

    async def until_ended(self, stream: int) -> None:
        await self.until(
            lambda events: any(
                isinstance(event, h2.events.StreamEnded | h2.events.StreamReset)
                and event.stream_id == stream
                for event in events
            )
        )

    async def headers_of(self, stream: int) -> dict[str, str]:
        """All headers and trailers of a stream that the server has ended."""
        await self.until_ended(stream)
        found: dict[str, str] = {}
        for event in self.events:
            if (
                isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived)
                and event.stream_id == stream
            ):
                found |= {str(name): str(value) for name, value in event.headers}
        return found

    def data_of(self, stream: int) -> bytes:
        return b"".join(
            event.data or b""
            for event in self.events
            if isinstance(event, h2.events.DataReceived) and event.stream_id == stream
        )

    async def goaway(self) -> int:
        """The code that the server closes with."""
        await self.until(
            lambda events: any(isinstance(e, h2.events.ConnectionTerminated) for e in events)
        )
        (event,) = [e for e in self.events if isinstance(e, h2.events.ConnectionTerminated)]
        assert await self.reader.read() == b""
        return int(event.error_code or 0)


@asynccontextmanager
async def raw_client(port: int) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    raw = Raw(reader, writer)
    try:
        await raw.start()
        yield raw
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
