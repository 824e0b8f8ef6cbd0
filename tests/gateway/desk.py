"""A whole gateway in this process, with a camera in front of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from relay.api.app import build_app
from relay.api.server import Server
from relay.config import Gateway
from relay.gateway.node import GatewayNode
from relay.gateway.path import Path
from relay.gateway.status import StreamState, StreamStatus
from relay.media.unit import VIDEO_CLOCK
from relay.protocols.webrtc.client import WhepClient, WhipClient
from tests.gateway.seller import MODEL, Seller
from tests.live import LOOPBACK, Viewer
from tests.media.samples import picture, sound
from tests.network import eventually

NAME = "cam"
FRAME = VIDEO_CLOCK // 30


class Camera:
    """Small pictures at 30 a second, a key frame now and then and when one is asked for.

    Attributes:
        keyframes: whether it makes any.
        key_every: pictures from one to the next.
        paused: it sends nothing.
        moving: its pictures differ, and have the size of such.
        asked: how often a key frame was asked for.
    """

    def __init__(self, whip: WhipClient, *, audio: bool = False) -> None:
        self.whip = whip
        self.keyframes = True
        self.key_every = 10
        self.paused = False
        self.moving = False
        self.asked = 0
        self._audio = audio
        self._count = 0
        self._owed = True
        whip.on_keyframe_request = self._on_request

    def _on_request(self) -> None:
        self.asked += 1
        self._owed = True

    async def run(self) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(max(0.0, began + self._count / 30 - time.monotonic()))
            if not self.paused:
                self._send()
            self._count += 1

    def _send(self) -> None:
        key = self.keyframes and (self._owed or self._count % self.key_every == 0)
        if key:
            self._owed = False
        now = time.monotonic()
        size, fill = 40, 0xAB
        if self.moving:
            size, fill = 1000 + self._count * 997 % 2000, self._count % 250 + 1
        self.whip.send(picture(self._count * FRAME, key=key, size=size, fill=fill, arrival=now))
        if self._audio:
            self.whip.send(sound(self._count * FRAME, arrival=now))


class Desk:
    def __init__(self, node: GatewayNode, server: Server) -> None:
        self.node = node
        self.server = server
        self.history: list[tuple[StreamState, str]] = []

    @property
    def whip(self) -> str:
        return f"{self.server.url}/whip/{NAME}"

    @property
    def whep(self) -> str:
        return f"{self.server.url}/whep/{NAME}"

    @property
    def stream(self) -> StreamStatus:
        return self.node.stream(NAME)

    @property
    def path(self) -> Path:
        return self.node._paths[NAME]

    async def get(self, url: str) -> tuple[int, Any]:
        """Status and JSON of what is there; a path alone is one of the API's."""
        where = url if "://" in url else f"{self.server.url}/v1/{url}"
        async with aiohttp.ClientSession() as http, http.get(where) as answer:
            return answer.status, await answer.json()

    @asynccontextmanager
    async def filming(self, *, audio: bool = False, **query: str) -> AsyncIterator[Camera]:
        """A camera that is live while the block runs."""
        asked = "&".join(f"{key}={value}" for key, value in query.items())
        whip = await WhipClient.connect(f"{self.whip}?{asked}", audio=audio, settings=LOOPBACK)
        self._record()
        camera = Camera(whip, audio=audio)
        running = asyncio.create_task(camera.run())
        try:
            yield camera
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await whip.close()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[Viewer]:
        viewer = Viewer(asked=time.monotonic())
        viewer.client = await WhepClient.connect(self.whep, on_unit=viewer.unit, settings=LOOPBACK)
        try:
            yield viewer
        finally:
            await viewer.client.close()

    def _record(self) -> None:
        """Keep every state that the stream goes through, however short."""
        path, moved = self.path, self.path.moved

        def record(state: StreamState, code: str = "", reason: str = "") -> None:
            moved(state, code, reason)
            if not self.history or self.history[-1] != (state, code):
                self.history.append((state, code))

        path.moved = record  # type: ignore[method-assign]

    async def reaches(self, state: StreamState, code: str | None = None) -> StreamStatus:
        def there() -> StreamStatus | None:
            now = self.stream
            return now if now.state is state and code in (None, now.reason_code) else None

        found: StreamStatus = await eventually(there, every=0.01)
        return found

    async def live_at(self, seller: Seller) -> StreamStatus:
        """Until pictures of this seller reach the viewers."""

        def there() -> StreamStatus | None:
            now = self.stream
            at = now.serving.orchestrator if now.serving else ""
            return now if now.state is StreamState.LIVE and at == seller.url else None

        found: StreamStatus = await eventually(there, every=0.01)
        return found

    @property
    def codes(self) -> list[str]:
        """Why it moved, in order."""
        return [code for _, code in self.history if code]


@asynccontextmanager
async def gateway(*sellers: Seller, **settings: Any) -> AsyncIterator[Desk]:
    """A gateway that knows these sellers, best first; quick to lose its patience."""
    chosen: dict[str, Any] = {
        "orchestrators": [seller.url for seller in sellers],
        "default_model": MODEL,
        "start_timeout": 0.8,
        "output_timeout": 0.6,
        "webrtc": LOOPBACK,
        **settings,
    }
    node = GatewayNode(Gateway(**chosen))
    await node.start()
    server = Server(build_app(node), host="127.0.0.1", port=0)
    await server.start()
    try:
        if sellers:
            await eventually(lambda: node.sellers.heard)
        yield Desk(node, server)
    finally:
        await server.stop()
        await node.stop()
