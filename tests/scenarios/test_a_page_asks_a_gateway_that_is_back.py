"""A page whose gateway did not answer for a while asks it, once it does, whether it knows the
session still: of one that was started again the media would fall silent, and no word come."""

from __future__ import annotations

import pytest
from playwright.async_api import Request, Route

from tests.browser import chromium, tab
from tests.gateway.desk import NAME, gateway
from tests.gateway.seller import Seller
from tests.network import eventually

pytestmark = pytest.mark.browser

PLAYS = "document.querySelector('video').currentTime > 0.3"
STATUS, SESSION = "**/v1/streams?*", "**/session/*"


async def _forgotten(route: Route) -> None:
    if route.request.method == "GET":
        await route.fulfill(status=404, json={"code": "no_session"})
    else:
        await route.continue_()


async def test_and_joins_again_where_it_does_not() -> None:
    offers: list[str] = []
    asked: list[str] = []

    def note(request: Request) -> None:
        if "/whep/" in request.url and request.method == "POST":
            offers.append(request.url)
        if "/session/" in request.url and request.method == "GET":
            asked.append(request.url)

    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
        chromium() as browser,
        desk.filming(),
        tab(browser, f"{desk.server.url}/watch/{NAME}") as page,
    ):
        await page.until(PLAYS)
        page.page.on("request", note)
        refused: list[str] = []

        async def refuse(route: Route) -> None:
            refused.append(route.request.url)
            await route.abort()

        await page.page.route(STATUS, refuse)
        await eventually(lambda: len(refused) > 1)
        assert not asked, "one that does not answer cannot be asked"
        await page.page.unroute(STATUS, refuse)
        await eventually(lambda: asked)
        assert not offers, "it knows the session"

        await page.page.route(SESSION, _forgotten)
        await page.page.route(STATUS, refuse)
        await eventually(lambda: len(refused) > 3)
        await page.page.unroute(STATUS, refuse)
        await eventually(lambda: len(offers) == 1)  # its media still flow: nothing else says so
        await page.until(PLAYS)
