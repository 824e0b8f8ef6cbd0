"""The HTTP side that the small servers of the benches share: WHIP, WHEP, and an end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def created(answer: str, session: str) -> web.Response:
    return web.Response(
        status=201,
        text=answer,
        content_type="application/sdp",
        headers={"Location": f"/session/{session}", "ETag": '"1"'},
    )


async def serve(whip: Handler | None, whep: Handler, *more: web.RouteDef) -> None:
    """Print the address and serve until standard input ends.

    Args:
        whip: None where nobody publishes.
    """
    app = web.Application()
    if whip is not None:
        app.router.add_post("/whip", whip)
    app.router.add_post("/whep", whep)
    app.router.add_delete("/session/{id}", _deleted)
    app.add_routes(more)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server: Any = site._server
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


async def _deleted(_: web.Request) -> web.Response:
    return web.Response()
