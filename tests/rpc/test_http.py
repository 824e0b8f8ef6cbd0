"""Calls to other nodes: addresses and answers of strangers are errors of ours, never others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.errors import PeerError
from relay.rpc.http import call
from relay.rpc.schema import fetch_schema
from relay.rpc.strangers import http_log


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "//x",
        "http://",
        "http://a..b",
        "http://\u2024",
        "http://" + "a" * 64,
        "http://[x",
        "http://127.0.0.1:99999",
        "file:///etc/passwd",
        "http://a b",
        "http://x\r\nA: b",
        "http://user@127.0.0.1:1",
        "http://\ud800",
        "http://127.0.0.1:1/" + "x" * 3000,
    ],
)
async def test_an_address_that_is_none_is_an_error_of_ours(
    session: aiohttp.ClientSession, url: str
) -> None:
    with pytest.raises(PeerError) as caught:
        await call(session, "GET", url, timeout=1, limit=10)
    assert caught.value.code == "bad_address"
    with pytest.raises(PeerError):
        await fetch_schema(session, url, "m", timeout=1)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=30), st.sampled_from(["", "http://127.0.0.1:1/", "http://127.0.0.1:"]))
async def test_any_text_as_an_address(text: str, front: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(PeerError):
            await call(session, "GET", f"{front}{text}", timeout=0.2, limit=10)


async def test_an_answer_without_end_is_cut(session: aiohttp.ClientSession) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(1 << 16))
            sent += 1 << 16

    app = web.Application()
    app.router.add_get("/", endless)
    runner = web.AppRunner(app, shutdown_timeout=0.1, logger=http_log(__name__))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    with pytest.raises(PeerError) as caught:
        await call(session, "GET", url, timeout=5, limit=1 << 20)
    assert caught.value.code == "peer_answer"
    await runner.cleanup()
    assert sent < 16 << 20
