"""A gateway that takes nobody new any more says so to those who come to watch; and those who
watched know where it went."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.browser import chromium, tab
from tests.gateway.desk import NAME, gateway
from tests.gateway.seller import Seller

pytestmark = pytest.mark.browser


async def test_and_is_let_in_by_the_next_one() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
        chromium() as browser,
        desk.filming(),
    ):
        await desk.live_at(seller)
        desk.node.draining = True
        async with tab(browser, f"{desk.server.url}/watch/{NAME}") as page:
            await page.says("#over", "This gateway is going away")
            desk.node.draining = False
            await page.until("document.querySelector('video').currentTime > 0.3", 30)
            assert not page.errors


async def test_and_one_that_was_open_says_that_it_has_gone() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
        chromium() as browser,
        desk.filming(),
        tab(browser, f"{desk.server.url}/watch/{NAME}") as page,
    ):
        await page.until("document.querySelector('video').currentTime > 0.3", 30)
        await desk.node.drain(time.monotonic())
        for _ in range(2):  # one answer may have been on its way
            async with page.page.expect_response("**/v1/streams?*"):
                pass
        await desk.server.stop()
        await desk.node.stop()
        await page.says("#over", "This gateway has gone away")
        await asyncio.sleep(1)  # an offer more, to nobody
        await page.says("#over", "This gateway has gone away")
