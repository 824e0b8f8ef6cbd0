"""``relay conformance --self``: a server of ours in this process, on a free port of loopback."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator

LOOPBACK = "127.0.0.1"
TRICKLE = "/trickle/"
STREAM = "conformance"


@contextlib.asynccontextmanager
async def trickle(url: str | None) -> AsyncIterator[str]:
    """The address of a trickle server; without one, of ours, which makes channels."""
    if url is not None:
        yield url
        return
    from aiohttp import web

    from relay.protocols.trickle.server import TrickleServer

    channels = TrickleServer(base_path=TRICKLE, autocreate=True)
    app = web.Application()
    channels.attach(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    sweeping = asyncio.create_task(channels.run())
    try:
        await web.TCPSite(runner, LOOPBACK, 0).start()
        yield f"http://{LOOPBACK}:{runner.addresses[0][1]}{TRICKLE}"
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
        await runner.cleanup()


@contextlib.asynccontextmanager
async def offering(
    kind: str, url: str | None, token: str | None
) -> AsyncIterator[tuple[str, str | None]]:
    """A WHIP or WHEP endpoint and its token; without an address, a gateway of ours.

    Args:
        kind: ``whip`` or ``whep``.
    """
    if url is not None:
        yield url, token
        return
    from relay.api.app import build_app
    from relay.api.server import Server
    from relay.config import Gateway, WebRtc
    from relay.gateway.node import GatewayNode

    key = secrets.token_urlsafe(16)
    node = GatewayNode(
        Gateway(orchestrators=[], publish_key=key, webrtc=WebRtc(host=LOOPBACK, port=0))
    )
    await node.start()
    server = Server(build_app(node), host=LOOPBACK, port=0)
    try:
        await server.start()
        yield f"{server.url}/{kind}/{STREAM}", key if kind == "whip" else token
    finally:
        await server.stop()
        await node.stop()
