"""A gateway that takes nobody new any more says so to those who come to watch."""

from __future__ import annotations

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
