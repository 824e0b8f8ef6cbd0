from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from relay.cli.health import ask, report
from relay.errors import ConfigError, PeerRefused, PeerTimeout


async def _served(status: int, text: str) -> TestServer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_get("/state", answer)
    server = TestServer(app)
    await server.start_server()
    return server


@pytest.mark.parametrize(
    ("status", "text"),
    [(200, '{"status": "ready"}'), (200, '{"status": "IDLE"}'), (200, "fine"), (200, "[]")],
)
async def test_a_role_that_is_well(status: int, text: str) -> None:
    server = await _served(status, text)
    assert await asyncio.to_thread(ask, str(server.make_url("/state")))
    await server.close()


@pytest.mark.parametrize(
    ("status", "text", "named"),
    [
        (503, '{"status": "draining"}', "503"),
        (200, '{"status": "ERROR"}', "ERROR"),
        (503, '{"status": "not ready", "reason": "nobody sells"}', "not ready: nobody sells"),
        (200, '{"status": "ERROR", "reason": "no model at /m"}', "ERROR: no model at /m"),
    ],
)
async def test_a_role_that_is_not(status: int, text: str, named: str) -> None:
    server = await _served(status, text)
    with pytest.raises(PeerRefused, match=named):
        await asyncio.to_thread(ask, str(server.make_url("/state")))
    await server.close()


async def test_nobody_there() -> None:
    server = await _served(200, "")
    url = str(server.make_url("/state"))
    await server.close()
    with pytest.raises(PeerTimeout):
        await asyncio.to_thread(ask, url)


def test_what_is_no_address() -> None:
    with pytest.raises(ConfigError):
        ask("file:///etc/passwd")


@pytest.mark.parametrize("path", ["/readyz", "/healthz", "/health"])
async def test_a_base_address_is_asked_where_it_answers(path: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"status": "IDLE"})

    app = web.Application()
    app.router.add_get(path, answer)
    server = TestServer(app)
    await server.start_server()
    assert await asyncio.to_thread(ask, str(server.make_url("/"))) == "IDLE"
    told = await asyncio.to_thread(report, str(server.make_url("")))
    assert (told["well"], told["status"]) == (True, "IDLE")
    await server.close()


async def test_what_has_no_such_address_is_no_role() -> None:
    server = await _served(200, "")
    with pytest.raises(PeerRefused, match="no role"):
        await asyncio.to_thread(ask, str(server.make_url("/")))
    told = await asyncio.to_thread(report, str(server.make_url("/nothing")))
    assert told["well"] is False
    assert "404" in told["error"]
    await server.close()
