"""A trickle server with a job's four channels, and the ends that a gateway has of them."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiohttp import web

from relay.media.mpegts import Demuxer
from relay.media.segmenter import Cut, Segmenter
from relay.media.unit import AccessUnit
from relay.protocols.trickle.client import open_session
from relay.protocols.trickle.publisher import TricklePublisher, send_whole
from relay.protocols.trickle.server import TrickleServer
from relay.protocols.trickle.subscriber import TrickleSubscriber
from relay.protocols.trickle.upload import SegmentWriter
from relay.rpc.events import Event, StatusEvent
from relay.rpc.runner import RunnerStart

T = TypeVar("T")
BOUND = 20.0


async def until(condition: Callable[[], T], what: str = "", bound: float = BOUND) -> T:
    """Wait for a condition; its value."""
    deadline = time.monotonic() + bound
    while not (value := condition()):
        assert time.monotonic() < deadline, what or "it did not come to pass"
        await asyncio.sleep(0.005)
    return value


class Desk:
    """The gateway's and the orchestrator's side of one job.

    Attributes:
        units: what came out, in order.
        segments: bytes of each output segment.
        events: what the job told.
    """

    def __init__(self, server: TrickleServer, base: str) -> None:
        self.server = server
        self.base = base
        self.units: list[AccessUnit] = []
        self.segments: list[bytes] = []
        self.events: list[Event] = []
        self._session = open_session()
        self._input = TricklePublisher(self._session, self.url("mid"), ssl=False)
        self._control = TricklePublisher(self._session, self.url("mid-control"), ssl=False)
        self._newest: int | None = None
        self._segmenter: Segmenter | None = None
        self._writer: SegmentWriter | None = None
        self._readers = [
            asyncio.create_task(self._read_output()),
            asyncio.create_task(self._read_events()),
        ]

    def url(self, name: str) -> str:
        return f"{self.base}/ai/trickle/{name}"

    def start(self, model_id: str, **params: Any) -> RunnerStart:
        return RunnerStart(
            subscribe_url=self.url("mid"),
            publish_url=self.url("mid-out"),
            control_url=self.url("mid-control"),
            events_url=self.url("mid-events"),
            model_id=model_id,
            params=params,
            manifest_id="mid",
        )

    # Input and control.

    def put(self, unit: AccessUnit, *, audio: bool = False, min_duration: float = 1.0) -> None:
        if self._segmenter is None:
            self._segmenter = Segmenter(audio=audio, min_duration=min_duration)
        for step in self._segmenter.push(unit, time.monotonic()):
            match step:
                case Cut():
                    if self._writer is not None:
                        self._writer.end()
                    self._writer = self._input.begin()
                case bytes(data):
                    assert self._writer is not None
                    assert self._writer.write(data)

    async def feed(
        self, units: Iterable[AccessUnit], *, pace: float = 0.01, audio: bool = False
    ) -> None:
        """Send units at a steady pace, whatever becomes of them."""
        for unit in units:
            self.put(unit, audio=audio)
            await asyncio.sleep(pace)

    async def step(self, units: Iterable[AccessUnit], *, audio: bool = False) -> None:
        """Send units; each picture only when the one before has come back."""
        for unit in units:
            self.put(unit, audio=audio)
            if unit.is_video:
                await until(
                    lambda: self._newest == unit.pts,  # noqa: B023
                    f"the frame of {unit.pts} did not come back",
                )

    def write(self, data: bytes) -> None:
        """Bytes into the input segment that is open."""
        assert self._writer is not None
        self._writer.write(data)

    async def control(self, message: dict[str, Any] | bytes) -> None:
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        await send_whole(self._control, data)

    async def end_input(self) -> None:
        if self._writer is not None:
            self._writer.end()
        await self._input.close()

    # Output and events.

    @property
    def video(self) -> list[AccessUnit]:
        return [unit for unit in self.units if unit.is_video]

    @property
    def audio(self) -> list[AccessUnit]:
        return [unit for unit in self.units if not unit.is_video]

    @property
    def statuses(self) -> list[StatusEvent]:
        found = [event.status() for event in self.events]
        return [status for status in found if status is not None]

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that the newest status tells; empty before one has come."""
        status = self.statuses[-1].inference_status if self.statuses else None
        return dict(status.last_params or {}) if status else {}

    @property
    def errors(self) -> list[str]:
        return [event.body["message"] for event in self.events if event.type == "error"]

    async def _read_output(self) -> None:
        demuxer = Demuxer()
        subscriber = TrickleSubscriber(self._session, self.url("mid-out"), start=0, ssl=False)
        async for segment in subscriber:
            self.segments.append(b"")
            async for chunk in segment:
                self.segments[-1] += chunk
                self._got(demuxer.feed(chunk, time.monotonic()))
            self._got(demuxer.flush(time.monotonic()))
        assert demuxer.discontinuities == 0

    def _got(self, units: list[AccessUnit]) -> None:
        self.units += units
        for unit in units:
            if unit.is_video:
                self._newest = unit.pts

    async def _read_events(self) -> None:
        subscriber = TrickleSubscriber(self._session, self.url("mid-events"), start=0, ssl=False)
        async for segment in subscriber:
            data = await segment.read(1 << 20)
            if data:
                self.events.append(Event.parse(data))

    async def close(self) -> None:
        await self._input.close()
        await self._control.close()
        for name in ("mid-out", "mid-events"):
            await self.server.close(name)
        await asyncio.wait_for(asyncio.gather(*self._readers), BOUND)
        await self._session.close()


@asynccontextmanager
async def desk(tls: ssl.SSLContext | None = None) -> AsyncIterator[Desk]:
    server = TrickleServer()
    app = web.Application()
    server.attach(app)
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    for name, mime in (
        ("mid", "video/MP2T"),
        ("mid-out", "video/MP2T"),
        ("mid-control", "application/json"),
        ("mid-events", "application/json"),
    ):
        server.create(name, mime)
    it = Desk(server, f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}")
    try:
        yield it
    finally:
        await it.close()
        await runner.cleanup()
