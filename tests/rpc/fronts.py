"""A front with a few small answers behind it, for the tests of this room."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from aiohttp import web

from relay.errors import PeerRefused
from relay.rpc.certificate import self_signed, server_context
from relay.rpc.front import Front
from relay.rpc.grpc_server import Limits

REFUSAL = "Invalid orchestrator request: OrchestratorCapped, 100% ä"


async def echo(message: bytes) -> bytes:
    return message


async def refuse(message: bytes) -> bytes:
    raise PeerRefused(REFUSAL)


async def crash(message: bytes) -> bytes:
    raise KeyError("a bug")


async def hang(message: bytes) -> bytes:
    await asyncio.Event().wait()
    return b""


async def big(message: bytes) -> bytes:
    return bytes(int(message))


GRPC = {
    "/net.Orchestrator/Ping": echo,
    "/net.Orchestrator/Refuse": refuse,
    "/net.Orchestrator/Crash": crash,
    "/net.Orchestrator/Hang": hang,
    "/net.Orchestrator/Big": big,
}


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello")


async def upload(request: web.Request) -> web.StreamResponse:
    """Sends back every piece as it comes."""
    response = web.StreamResponse()
    await response.prepare(request)
    async for piece in request.content.iter_any():
        await response.write(piece)
    return response


def application() -> web.Application:
    app = web.Application()
    app.add_routes([web.get("/hello", hello), web.post("/upload", upload)])
    return app


@cache
def certificate() -> tuple[bytes, bytes]:
    return self_signed("127.0.0.1", datetime.now(UTC))


@cache
def tls() -> ssl.SSLContext:
    with TemporaryDirectory() as folder:
        cert, key = Path(folder) / "cert.pem", Path(folder) / "key.pem"
        cert.write_bytes(certificate()[0])
        key.write_bytes(certificate()[1])
        return server_context(cert, key)


@asynccontextmanager
async def running_front(
    *, secure: bool = False, limits: Limits | None = None, head_timeout: float = 10.0
) -> AsyncIterator[tuple[Front, int]]:
    front = Front(
        application(), GRPC, tls() if secure else None, limits=limits, head_timeout=head_timeout
    )
    port = await front.start("127.0.0.1", 0)
    try:
        yield front, port
    finally:
        await front.stop(0.1)
