"""An operator's own HTTP service: it keeps what it is sent, and answers what a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Received:
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Hook:
    """
    Attributes:
        reply: how the next request is answered.
        got: all requests, in order.
    """

    reply: Reply
    url: str = ""
    got: list[Received] = field(default_factory=list)

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.got.append(Received(request.headers.copy(), await request.read()))
        return await self.reply(request)


def says(value: Any = None, *, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    """Answer with JSON, or with bytes as they are."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()

    async def reply(_: web.Request) -> web.StreamResponse:
        return web.Response(
            status=status, body=data, headers=headers, content_type="application/json"
        )

    return reply


async def never(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def endless(request: web.Request) -> web.StreamResponse:
    """More bytes than anybody reads."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(400):
        await answer.write(b" " * 65536)
    return answer


async def breaks_off(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@asynccontextmanager
async def hook(reply: Reply) -> AsyncIterator[Hook]:
    made = Hook(reply)
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{rest:.*}", made._take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    made.url = f"http://{host}:{port}/hook"
    try:
        yield made
    finally:
        await runner.cleanup()
