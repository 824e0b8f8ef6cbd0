"""A streamer that falls silent and stays: its viewers' pages say why the picture stands still."""

from __future__ import annotations

import pytest

from tests.browser import chromium, tab
from tests.gateway.desk import NAME, gateway
from tests.gateway.seller import Seller
from tests.network import eventually

pytestmark = pytest.mark.browser

PLAYS = "document.querySelector('video').currentTime > 0.3"


async def test_until_it_sends_again() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
        chromium() as browser,
        desk.filming() as camera,
        tab(browser, f"{desk.server.url}/watch/{NAME}") as page,
    ):
        await page.until(PLAYS)
        over = page.page.locator("#over")

        async def says_nothing() -> bool:
            return not await over.is_visible()

        await eventually(says_nothing)
        camera.paused = True
        await page.says("#over", "its streamer sends nothing")
        camera.paused = False
        await eventually(says_nothing)
        page.check()
