from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from relay.cli.health import PATHS, ask, report
from relay.errors import ConfigError, PeerRefused, PeerTimeout
from relay.rpc.certificate import node_certificate, server_context
from tests.gateway.desk import gateway
from tests.gateway.seller import Seller


async def _served(status: int, text: str) -> TestServer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_get("/state", answer)
    server = TestServer(app)
    await server.start_server()
    return server


@asynccontextmanager
async def _serving(path: str, text: str) -> AsyncIterator[str]:
    """The base address of a server that answers so at the path."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get(path, answer)
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("")).rstrip("/")
    finally:
        await server.close()


@pytest.mark.parametrize(
    ("status", "text"),
    [(200, '{"status": "ready"}'), (200, '{"status": "IDLE"}')],
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


@pytest.mark.parametrize("text", ["fine", "[]", "{}", ""])
@pytest.mark.parametrize("path", PATHS)
async def test_a_health_address_may_answer_without_a_word(path: str, text: str) -> None:
    async with _serving(path, text) as base:
        assert await asyncio.to_thread(ask, f"{base}{path}") == "ok"
        assert await asyncio.to_thread(ask, base) == "ok"


@pytest.mark.parametrize("text", ["<html>a page</html>", '{"streams": []}', "[]"])
async def test_what_tells_of_no_health_is_told_with_the_form_that_is_meant(text: str) -> None:
    async with _serving("/watch/cam", text) as base:
        with pytest.raises(PeerRefused) as told:
            await asyncio.to_thread(ask, f"{base}/watch/cam")
        assert "tells of no health" in str(told.value)
        assert str(told.value).endswith(f"(the base address is {base})")
        with pytest.raises(PeerRefused, match="answered 404") as told:
            await asyncio.to_thread(ask, f"{base}/nothing")
        assert str(told.value).endswith(f"(the base address is {base})")


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


async def test_what_a_ready_gateway_lacks_is_told_beside_its_word() -> None:
    warning = "no orchestrator offers a model"
    async with _serving("/readyz", json.dumps({"status": "ready", "warning": warning})) as base:
        assert await asyncio.to_thread(ask, base) == f"ready, but {warning}"
        assert await asyncio.to_thread(report, base) == {
            "url": base,
            "well": True,
            "status": "ready",
            "warning": warning,
        }


@pytest.mark.parametrize("path", ["", "/readyz", "/healthz"])
async def test_a_wrong_token_is_told(path: str) -> None:
    async with Seller().running() as seller, gateway(seller, publish_key="key") as desk:
        url = f"{desk.server.url}{path}"
        assert await asyncio.to_thread(ask, url, "key") in ("ready", "ok")
        with pytest.raises(PeerRefused, match=r"(ready|ok), but of the token: this is not") as told:
            await asyncio.to_thread(ask, url, "another")
        assert told.value.code == "key_unknown"
        wrong = await asyncio.to_thread(report, url, "another")
        assert (wrong["well"], wrong["status"]) == (False, "key_unknown")
        desk.node.draining = True
        if path != "/healthz":
            with pytest.raises(PeerRefused, match=r"draining: .*; of the token: this is not"):
                await asyncio.to_thread(ask, url, "another")


async def _keyed(hops: list[str | None]) -> TestServer:
    """A gateway that names whom it lacks to who has the key, and an address that leads to it."""

    async def ready(request: web.Request) -> web.Response:
        offered = request.headers.get("Authorization")
        hops.append(offered)
        more = ": https://node.example does not answer" if offered == "Bearer key" else ""
        told = {"status": "not ready", "reason": f"nobody sells{more}"}
        return web.json_response(told, status=503)

    async def elsewhere(_: web.Request) -> web.Response:
        raise web.HTTPFound("/readyz")

    app = web.Application()
    app.router.add_get("/readyz", ready)
    app.router.add_get("/elsewhere", elsewhere)
    server = TestServer(app)
    await server.start_server()
    return server


async def test_with_the_publish_key_the_reason_has_its_names() -> None:
    server = await _keyed([])
    base = str(server.make_url(""))
    for token, named in (("key", True), ("another", False), (None, False)):
        told = await asyncio.to_thread(report, base, token)
        assert told["well"] is False
        assert "nobody sells" in told["error"]
        assert ("node.example" in told["error"]) is named
    await server.close()


async def test_the_key_does_not_follow_where_an_answer_leads() -> None:
    hops: list[str | None] = []
    server = await _keyed(hops)
    with pytest.raises(PeerRefused):
        await asyncio.to_thread(ask, str(server.make_url("/elsewhere")), "key")
    assert hops == [None]
    await server.close()


async def test_the_key_goes_to_no_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    asked: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Authorization"))
        return web.json_response({"status": "ready"})

    app = web.Application()
    app.router.add_get("/readyz", answer)
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=server_context(*node_certificate(tmp_path, "127.0.0.1")))
    base = str(server.make_url(""))
    assert await asyncio.to_thread(ask, base) == "ready"
    with pytest.raises(PeerTimeout, match="--insecure"):
        await asyncio.to_thread(ask, base, "key")
    assert asked == [None]
    assert await asyncio.to_thread(partial(ask, base, "key", insecure=True)) == "ready"
    assert asked == [None, "Bearer key"]
    await server.close()
