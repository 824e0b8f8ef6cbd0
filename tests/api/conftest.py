"""A served application, and raw sockets for what a good client would not send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from relay.api.app import build_app
from relay.api.server import Server
from relay.config import Gateway
from tests.api.fake import FakeNode

OFFER = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"
SDP = {"Content-Type": "application/sdp"}
FRAG = {"Content-Type": "application/trickle-ice-sdpfrag"}


@dataclass
class Site:
    node: FakeNode
    server: Server
    http: aiohttp.ClientSession

    async def call(
        self, method: str, path: str, data: Any = None, **headers: str
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """One request; header names with ``_`` for ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(
            method,
            f"{self.server.url}{path}",
            data=data,
            headers=named,
            skip_auto_headers=["Content-Type"],
        ) as answer:
            return answer, await answer.read()

    async def post(self, path: str, offer: Any = OFFER, **headers: str) -> Any:
        return await self.call("POST", path, offer, Content_Type="application/sdp", **headers)

    async def raw(self, data: bytes, *, until: bytes | None = None) -> bytes:
        """Send bytes, read until the other side closes or ``until`` has come."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        got = b""
        try:
            writer.write(data)
            async with asyncio.timeout(5):
                while (until is None or until not in got) and (part := await reader.read(65536)):
                    got += part
        finally:
            writer.close()
        return got


MakeSite = Callable[..., Coroutine[Any, Any, Site]]


@asynccontextmanager
async def sites() -> AsyncIterator[MakeSite]:
    """What makes served fake gateways; they end with the block."""
    opened: list[Site] = []

    async def make(**settings: Any) -> Site:
        node = FakeNode(Gateway(**settings))
        server = Server(build_app(node), host="127.0.0.1", port=0)
        await server.start()
        jar = aiohttp.DummyCookieJar()
        site = Site(node, server, aiohttp.ClientSession(cookie_jar=jar, auto_decompress=False))
        opened.append(site)
        return site

    yield make
    for site in opened:
        await site.http.close()
        await site.server.stop()


@pytest.fixture
async def make_site() -> AsyncIterator[MakeSite]:
    """Make a served fake gateway: ``await make_site(publish_key="...")``."""
    async with sites() as make:
        yield make


@pytest.fixture
async def site(make_site: MakeSite) -> Site:
    return await make_site()
