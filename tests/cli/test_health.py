from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from relay.cli.health import ask
from relay.errors import BadInput, PeerRefused, PeerTimeout


async def _served(status: int, text: str) -> TestServer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_get("/", answer)
    server = TestServer(app)
    await server.start_server()
    return server


@pytest.mark.parametrize(
    ("status", "text"),
    [(200, '{"status": "ready"}'), (200, '{"status": "IDLE"}'), (200, "fine"), (200, "[]")],
)
async def test_a_role_that_is_well(status: int, text: str) -> None:
    server = await _served(status, text)
    assert await asyncio.to_thread(ask, str(server.make_url("/")))
    await server.close()


@pytest.mark.parametrize(
    ("status", "text", "named"),
    [(503, '{"status": "draining"}', "503"), (200, '{"status": "ERROR"}', "ERROR")],
)
async def test_a_role_that_is_not(status: int, text: str, named: str) -> None:
    server = await _served(status, text)
    with pytest.raises(PeerRefused, match=named):
        await asyncio.to_thread(ask, str(server.make_url("/")))
    await server.close()


async def test_nobody_there() -> None:
    server = await _served(200, "")
    url = str(server.make_url("/"))
    await server.close()
    with pytest.raises(PeerTimeout):
        await asyncio.to_thread(ask, url)


def test_what_is_no_address() -> None:
    with pytest.raises(BadInput):
        ask("file:///etc/passwd")
