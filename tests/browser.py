"""Debian's Chromium, with a made-up camera, and no way to anything but this machine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.network import eventually

CHROMIUM: Final = "/usr/bin/chromium"
FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
CAMERA: Final = "--use-fake-device-for-media-stream"
LEAVE: Final = "--use-fake-ui-for-media-stream"  # the question for leave is answered with yes
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class Tab:
    """A page, and all that it complained of.

    Attributes:
        errors: exceptions and console errors; those that tell of an answer's status
            (which browsers write by themselves) stand in ``refusals``, each with the
            address that was asked.
        strangers: addresses asked for that are not this machine.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.refusals: list[str] = []
        self.strangers: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._heard)
        page.on("request", lambda request: self._asked(request.url))

    def _heard(self, message: Any) -> None:
        if message.type not in ("error", "warning"):
            return
        if "Failed to load resource" in message.text:
            self.refusals.append(f"{message.text} {message.location.get('url', '')}")
        else:
            self.errors.append(message.text)

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in LOOPBACK:
            self.strangers.append(url)

    async def until(self, expression: str, seconds: float = 15.0) -> Any:
        """Wait until a JavaScript expression is true. (The pages' own policy forbids eval.)"""

        async def ask() -> Any:
            return await self.page.evaluate(expression)

        return await eventually(ask, seconds)

    async def says(self, selector: str, words: str, seconds: float = 15.0) -> None:
        """Wait until a visible element holds these words."""

        place = self.page.locator(selector)

        async def told() -> bool:
            return await place.is_visible() and words in (await place.inner_text())

        shown: bool = await eventually(told, seconds)
        assert shown

    async def picture(self, selector: str) -> list[float]:
        """Mean (red, green, blue) of a video's present frame, 0..255 each."""
        told: list[float] = await self.page.evaluate(_MEAN, selector)
        return told

    def check(self) -> None:
        assert not self.errors, self.errors
        assert not self.strangers, self.strangers


@contextlib.asynccontextmanager
async def chromium(*more: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS, *more], chromium_sandbox=False
        )
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def tab(browser: Browser, url: str, **options: Any) -> AsyncIterator[Tab]:
    """A page in a profile of its own."""
    context: BrowserContext = await browser.new_context(**options)
    try:
        opened = Tab(await context.new_page())
        await opened.page.goto(url)
        yield opened
    finally:
        await context.close()


_MEAN = """(selector) => {
  const video = document.querySelector(selector);
  const canvas = document.createElement("canvas");
  canvas.width = 32;
  canvas.height = 18;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(video, 0, 0, 32, 18);
  const { data } = context.getImageData(0, 0, 32, 18);
  const sum = [0, 0, 0];
  for (let at = 0; at < data.length; at += 4) {
    for (let part = 0; part < 3; part += 1) sum[part] += data[at + part];
  }
  return sum.map((value) => (value * 4) / data.length);
}"""
