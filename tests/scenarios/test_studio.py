"""Streamers and viewers in Chromium, through gateway, orchestrator and worker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.browser import CAMERA, LEAVE, Tab, chromium, tab
from tests.network import ROOT, Network, eventually
from tests.scene import camera_file

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

NETWORK = {"worker__slots": 2}
DESK = {"viewport": {"width": 1280, "height": 860}}
FLOWS = (
    "document.querySelector('{}').videoWidth > 0 && document.querySelector('{}').currentTime > 0"
)

# Whether nothing else on the page shares the element's place, and all of it is in sight.
FREE = """(selector) => {
  const place = document.querySelector(selector).getBoundingClientRect();
  const others = [...document.querySelectorAll("button, figcaption")];
  return place.left >= 0 && place.right <= innerWidth && others
    .map((one) => one.getBoundingClientRect())
    .every((one) => one.right <= place.left || one.left >= place.right
      || one.bottom <= place.top || one.top >= place.bottom);
}"""


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return camera_file(tmp_path_factory.mktemp("camera") / "scene.mjpeg")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(camera: Path) -> AsyncIterator[Browser]:
    """Of all tests here; each tab has a profile of its own."""
    async with chromium(CAMERA, LEAVE, f"--use-file-for-fake-video-capture={camera}") as opened:
        yield opened


@contextlib.asynccontextmanager
async def studio(browser: Browser, network: Network, **options: Any) -> AsyncIterator[Tab]:
    """A studio that has its camera; not live yet."""
    leave = {"permissions": ["camera", "microphone"]}
    async with tab(browser, network.url, **{**DESK, **leave, **options}) as opened:
        await opened.page.get_by_role("radio", name="Duotone").wait_for()
        await opened.page.click("#camera")
        await opened.until(FLOWS.format("#input", "#input"))
        yield opened


async def go_live(opened: Tab, name: str | None = None) -> str:
    if name is not None:
        await opened.page.fill("#name", name)
    await opened.page.click("#go")
    await opened.says("#state", "live")
    await opened.until(FLOWS.format("#output", "#output"))
    return await opened.page.input_value("#name")


async def sees_picture(viewer: Tab) -> None:
    await viewer.until(FLOWS.format("#video", "#video"))
    await eventually(lambda: _hidden(viewer, "#over"))


async def _hidden(opened: Tab, selector: str) -> bool:
    return not await opened.page.locator(selector).is_visible()


async def _turned(viewer: Tab, before: list[float], much: float = 12.0) -> bool:
    now = await viewer.picture("#video")
    return max(abs(a - b) for a, b in zip(now, before, strict=True)) > much


async def _all_estimated(network: Network, name: str) -> bool:
    """Whether each viewer's path is known, by what the browser says of each packet."""
    address = f"{network.url}/v1/streams/{name}/viewers"
    async with aiohttp.ClientSession() as http, http.get(address) as answer:
        viewers = (await answer.json())["viewers"]
        known = [viewer["estimate"] and viewer["queue_ms"] is not None for viewer in viewers]
        return len(known) == 2 and all(known)


async def test_a_viewer_sees_what_the_streamer_chooses(
    network: Network, browser: Browser, tmp_path: Path
) -> None:
    async with studio(browser, network) as opened:
        name = await go_live(opened)
        link = await opened.page.input_value("#link")
        assert link == network.watch(name)
        async with tab(browser, link) as viewer:  # without leave for cameras: mDNS candidates
            await sees_picture(viewer)
            plain = await viewer.picture("#video")
            await opened.page.get_by_role("radio", name="Duotone").check()
            await eventually(lambda: _turned(viewer, plain))
            await asyncio.sleep(0.3)
            before = await viewer.picture("#video")
            await opened.page.get_by_label("Hue of shadows").fill("120")
            await eventually(lambda: _turned(viewer, before))
            await opened.says("#delay", "ms")
            await opened.says("#worker", "effects at https://127.0.0.1")
            await opened.says("#received", "lost")
            await opened.says("#sent", "reported lost")
            for told in ("path ", "queue "):  # Chromium gives transport-wide feedback
                await opened.says("#sent", told)
            assert await eventually(lambda: _all_estimated(network, name))
            viewer.check()
        opened.check()


async def test_the_picture_of_the_studio(
    network: Network, browser: Browser, tmp_path: Path
) -> None:
    """The one in the README: written there when UPDATE_SCREENSHOTS is set."""
    folder = ROOT / "docs" if os.environ.get("UPDATE_SCREENSHOTS") else tmp_path
    looks: list[tuple[str, dict[str, Any]]] = [
        ("studio", {}),
        ("studio-dark", {"color_scheme": "dark"}),
        ("studio-phone", {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}}),
    ]
    for title, options in looks:
        async with studio(browser, network, **options) as opened:
            await go_live(opened)
            await opened.page.get_by_role("radio", name="Cartoon").check()
            await opened.says("#output-figures", "ms")
            await asyncio.sleep(2)
            wide = await opened.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= opened.page.viewport_size["width"]  # type: ignore[index]
            kept = folder if title == "studio" else tmp_path
            await opened.page.screenshot(path=kept / f"{title}.png")
            assert (kept / f"{title}.png").stat().st_size > 50_000
            opened.check()


async def test_a_reloaded_studio_goes_on_and_its_viewer_stays(
    network: Network, browser: Browser
) -> None:
    async with studio(browser, network) as opened:
        name = await go_live(opened)
        async with tab(browser, network.watch(name)) as viewer:
            await sees_picture(viewer)
            offers: list[str] = []
            viewer.page.on("request", lambda asked: offers.append(asked.method))
            await opened.page.reload()
            await opened.until(FLOWS.format("#output", "#output"))
            await opened.says("#state", "live")
            assert await opened.page.input_value("#name") == name
            await sees_picture(viewer)
            assert "POST" not in offers
            viewer.check()
        opened.check()


async def test_a_tab_that_crashes_leaves_nothing_behind(network: Network, browser: Browser) -> None:
    async with studio(browser, network) as opened:
        name = await go_live(opened)
        async with tab(browser, network.watch(name)) as viewer:
            await sees_picture(viewer)
            remote = await opened.page.context.new_cdp_session(opened.page)
            crash = asyncio.ensure_future(remote.send("Page.crash"))
            await viewer.says("#over", "Waiting for the stream", 20)
            crash.cancel()
            await eventually(network.idle)
            # The name is free again, and the viewer who stayed sees its next publisher.
            async with studio(browser, network) as again:
                await go_live(again, name)
                await sees_picture(viewer)
            viewer.check()


async def test_a_name_that_is_live_elsewhere_is_said_to_be_taken(
    network: Network, browser: Browser
) -> None:
    async with studio(browser, network) as first, studio(browser, network) as second:
        name = await go_live(first)
        await second.page.fill("#name", name)
        await second.page.click("#go")
        await second.says("#notice", "This name is taken")
        await second.says("#state", "not live")
        assert await _hidden(second, "#share")
        await first.page.click("#go")
        await first.says("#state", "not live")
        await second.page.click("#notice-button")
        await second.says("#state", "live")
        assert await second.page.input_value("#link") == network.watch(name)
        first.check()
        second.check()


async def test_a_lost_worker_is_said_and_replaced(network: Network, browser: Browser) -> None:
    async with studio(browser, network) as opened:
        name = await go_live(opened)
        await opened.page.get_by_role("radio", name="Duotone").check()
        async with tab(browser, network.watch(name)) as viewer:
            await sees_picture(viewer)
            await asyncio.sleep(1)
            tinted = await viewer.picture("#video")
            offers: list[str] = []
            viewer.page.on("request", lambda asked: offers.append(asked.method))
            watching = asyncio.gather(
                opened.says("#state", "switching worker", 5),
                viewer.says("#over", "Switching worker", 5),
            )
            for slot in network.slots():
                slot.send_signal(signal.SIGKILL)
            await watching
            await opened.says("#state", "live")
            await sees_picture(viewer)
            # The last parameters were sent again, and the raw camera never showed.
            assert not await _turned(viewer, tinted, 30)
            assert "POST" not in offers
            viewer.check()
        opened.check()


async def test_a_clip_is_published(network: Network, browser: Browser, tmp_path: Path) -> None:
    clip = tmp_path / "clip.webm"
    encoder = await asyncio.create_subprocess_exec(
        *("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30"),
        *("-f", "lavfi", "-i", "sine=440", "-t", "2", "-c:v", "libvpx", "-b:v", "1M"),
        *("-c:a", "libopus", str(clip)),
    )
    assert await encoder.wait() == 0
    async with tab(browser, network.url, **DESK) as opened:
        await opened.page.set_input_files("#clip", clip)
        await opened.until(FLOWS.format("#input", "#input"))
        await go_live(opened)
        await opened.says("#in", "640×360")
        await opened.says("#in", "sound")
        opened.check()


async def test_stop_ends_it_for_everyone(network: Network, browser: Browser) -> None:
    async with studio(browser, network) as opened:
        name = await go_live(opened)
        async with tab(browser, network.watch(name)) as viewer:
            await sees_picture(viewer)
            await opened.page.click("#go")
            await opened.says("#state", "not live")
            await viewer.says("#over", "Waiting for the stream")
            for width, height in ((1280, 800), (1000, 700), (390, 844)):
                await viewer.page.set_viewport_size({"width": width, "height": height})
                assert await viewer.page.evaluate(FREE, "#over")
            viewer.check()
        opened.check()


async def test_of_a_gateway_that_does_not_answer_no_figures_are_left(
    network: Network, browser: Browser
) -> None:
    async with studio(browser, network) as opened:
        await go_live(opened)
        await opened.says("#in", "fps")
        await opened.page.route("**/v1/streams?*", lambda route: route.abort())
        await opened.says("#state", "gateway away")
        await opened.says("#output-over", "The gateway does not answer")
        assert "fps" not in await opened.page.inner_text("#in")
        await opened.page.unroute("**/v1/streams?*")
        await opened.says("#state", "live")
        await opened.says("#in", "fps")
        await eventually(lambda: _hidden(opened, "#output-over"))


async def test_a_stream_stopped_by_the_api_stays_stopped(
    network: Network, browser: Browser
) -> None:
    async with studio(browser, network) as opened, aiohttp.ClientSession() as http:
        name = await go_live(opened)
        async with tab(browser, network.watch(name)) as viewer:
            await sees_picture(viewer)
            offers: list[str] = []
            opened.page.on("request", lambda asked: offers.append(asked.method + asked.url))
            async with http.delete(f"{network.url}/v1/streams/{name}") as answer:
                assert answer.status == 204
            await opened.says("#notice", "The stream was stopped")
            await opened.says("#state", "not live")
            await viewer.says("#over", "Waiting for the stream")
            await asyncio.sleep(1.5)  # longer than a lost publisher would wait
            assert not any("POST" in asked and "/whip/" in asked for asked in offers)
            await opened.page.click("#notice-button")
            await opened.says("#state", "live")
            await sees_picture(viewer)
            viewer.check()
        opened.check()
