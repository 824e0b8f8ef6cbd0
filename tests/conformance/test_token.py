"""A trickle server that asks for a token is tested with one, and not without."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from relay.conformance import suites
from relay.conformance.case import Outcome, Unusable
from relay.protocols.trickle.passes import Access, Pass
from relay.protocols.trickle.server import TrickleServer
from tests.conformance.test_command import SOME, conformance
from tests.protocols.trickle.wire import serve

TOKEN = "key-of-all"


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A server that makes channels, behind one token for all of it."""

    @web.middleware
    async def ask(request: web.Request, handler: object) -> web.StreamResponse:
        given = request.headers.get("Authorization")
        if given != f"Bearer {TOKEN}":
            return web.Response(status=401 if given is None else 403)
        response: web.StreamResponse = await handler(request)  # type: ignore[operator]
        return response

    server = TrickleServer(base_path="/t/", autocreate=True)
    app = web.Application(middlewares=[ask])
    server.attach(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/t/"
    await runner.cleanup()


async def test_every_case_sends_it(url: str) -> None:
    cases = suites.chosen(suites.TRICKLE, slow=False, abuse=False)
    told = [result async for result in await suites.trickle(url, (), cases, token=TOKEN)]
    assert [result.name for result in told if result.outcome is Outcome.FAILED] == []
    assert sum(result.outcome is Outcome.PASSED for result in told) > 40


@pytest.mark.parametrize("token", [None, "other"])
async def test_without_the_right_one_nothing_can_be_tested(url: str, token: str | None) -> None:
    with pytest.raises(Unusable, match="give its token by --token"):
        await suites.trickle(url, (), (), token=token)


async def test_a_channel_of_ours_is_tested_with_its_token() -> None:
    async with serve(tokens=True) as site:
        one = Pass()
        site.server.create("ch", "video/MP2T")
        site.server.let("ch", one, Access.ALL)
        only = ("post-latest", "next-tells-latest")
        cases = suites.chosen(suites.TRICKLE, slow=False, abuse=False, only=only)
        found = await suites.trickle(site.base, (f"{site.base}ch",), cases, token=one.token)
        told = [result async for result in found]
    assert [result.outcome for result in told] == [Outcome.PASSED] * 2


async def test_the_command_takes_it(url: str) -> None:
    code, lines, _ = await conformance("trickle", url, *SOME, "--token", TOKEN)
    assert (code, lines[-1]) == (0, "2 passed, 0 failed, 1 not offered")
    code, _, said = await conformance("trickle", url, *SOME)
    assert (code, said) == (2, f"error: {url} answers 401: give its token by --token\n")
