"""What the studio says when things go wrong, in Chromium, before any media flows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Request, Route

from relay.errors import Conflict, RelayError, Unavailable, Unprocessable
from relay.gateway.status import ModelOffer
from tests.api.conftest import MakeSite, Site, sites
from tests.browser import CAMERA, LEAVE, Tab, chromium, tab
from tests.network import eventually

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

SCHEMA = {
    "type": "object",
    "properties": {
        "effect": {"enum": ["none", "blur"], "default": "none", "x-title": {"none": "Plain"}},
        "radius": {
            "type": "integer",
            "title": "Radius",
            "minimum": 1,
            "maximum": 40,
            "default": 12,
            "x-effect": "blur",
        },
        "mirror": {"type": "boolean", "title": "Mirror", "default": False},
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Of all tests here; each has a profile of its own."""
    async with chromium(CAMERA, LEAVE) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def make_site() -> AsyncIterator[MakeSite]:
    async with sites() as make:
        yield make


@pytest_asyncio.fixture(loop_scope="module")
async def site(make_site: MakeSite) -> Site:
    return await make_site()


def offer(site: Site) -> None:
    site.node.offers = [ModelOffer("effects", "live-video-to-video", 1, "1", SCHEMA)]


async def go_live(opened: Tab) -> None:
    await opened.page.click("#camera")
    await opened.until("document.querySelector('#input').videoWidth > 0")
    await opened.page.click("#go")


async def test_the_schema_makes_the_controls(site: Site, browser: Browser) -> None:
    offer(site)
    async with tab(browser, site.server.url) as opened:
        page = opened.page
        await page.get_by_role("radio", name="Plain").wait_for()
        assert not await page.get_by_label("Radius").is_visible()
        await page.get_by_role("radio", name="Blur").check()
        slider = page.get_by_label("Radius")
        assert await slider.is_visible()
        assert await slider.input_value() == "12"
        assert await slider.get_attribute("max") == "40"
        await page.get_by_label("Mirror").check()
        await slider.fill("20")
        await page.click("#defaults")
        assert await slider.input_value() == "12"
        assert not await page.get_by_label("Mirror").is_checked()
        opened.check()


async def test_a_model_that_tells_no_parameters_says_so(site: Site, browser: Browser) -> None:
    told = "This model tells no parameters."
    for schema, boxes in ((None, 1), ({"type": "object", "properties": {}}, 0)):
        site.node.offers = [ModelOffer("effects", "live-video-to-video", 1, "1", schema)]
        async with tab(browser, site.server.url) as opened:
            await opened.says("#settings", told)
            assert await opened.page.locator("#settings textarea").count() == boxes
            assert not await opened.page.locator("#defaults").is_visible()
            opened.check()


async def test_a_blocked_camera_says_how_to_allow_it(site: Site) -> None:
    offer(site)
    flags = (CAMERA, "--deny-permission-prompts")
    async with chromium(*flags) as browser, tab(browser, site.server.url) as opened:
        await opened.page.click("#camera")
        await opened.says("#notice", "Allow it")
        assert await opened.page.locator("#go").is_disabled()
        opened.check()


async def test_a_page_that_is_not_secure_says_where_to_go(site: Site) -> None:
    offer(site)
    flags = (CAMERA, LEAVE, "--host-resolver-rules=MAP relay.test 127.0.0.1")
    address = f"http://relay.test:{site.server.port}/"
    async with chromium(*flags) as browser, tab(browser, address) as opened:
        await opened.page.click("#camera")
        await opened.says("#notice", f"http://localhost:{site.server.port}/")
        await opened.says("#notice", "TLS")
        assert not opened.errors


async def test_without_a_camera_a_clip_is_offered(site: Site) -> None:
    offer(site)
    flags = (LEAVE, f"{CAMERA}=device-count=0")
    async with chromium(*flags) as browser, tab(browser, site.server.url) as opened:
        await opened.page.click("#camera")
        await opened.says("#notice", "No camera was found")
        opened.check()


REFUSALS = [
    (Unprocessable("x", code="no_h264"), "does not send H.264"),
    (Unavailable("x"), "No capacity"),
    (Unavailable("x", code="draining"), "going away"),
    (Conflict("x", code="name_taken"), "Choose another one"),
    (Unprocessable("radius: 99 is more than 40", code="bad_params"), "radius: 99"),
    (RelayError("x"), "Its log tells more"),
]


async def test_each_refusal_says_what_to_do_and_can_be_tried_again(
    site: Site, browser: Browser
) -> None:
    offer(site)
    async with tab(browser, site.server.url) as opened:
        await opened.page.click("#camera")
        await opened.until("document.querySelector('#input').videoWidth > 0")
        for error, words in REFUSALS:
            site.node.fail = error
            await opened.page.click("#go")
            await opened.says("#notice", words)
            await opened.says("#state", "not live")
            assert await opened.page.locator("#go").is_enabled()
        opened.check()


async def test_a_busy_gateway_is_tried_again_when_it_said(site: Site, browser: Browser) -> None:
    offer(site)
    site.node.fail = Unavailable("x", code="busy", retry_after=1)
    async with tab(browser, site.server.url) as opened:
        await go_live(opened)
        await opened.says("#notice", "Trying again in 1 s")
        site.node.fail = Unprocessable("x", code="no_h264")
        await opened.says("#notice", "does not send H.264")


TAKEN = Conflict("x", code="name_taken", retry_after=1)


def offers_of(opened: Tab) -> list[str]:
    """The streams that the page asks to publish, from now on."""
    asked: list[str] = []

    def note(request: Request) -> None:
        if "/whip/" in request.url:
            asked.append(request.url)

    opened.page.on("request", note)
    return asked


async def test_a_taken_name_is_said_once_and_its_link_never_shown(
    site: Site, browser: Browser
) -> None:
    offer(site)
    site.node.fail = TAKEN
    async with tab(browser, site.server.url) as opened:
        offers = offers_of(opened)
        asked, answered = asyncio.Event(), asyncio.Event()

        async def hold(route: Route) -> None:
            asked.set()
            await answered.wait()
            await route.continue_()

        await opened.page.route("**/whip/**", hold)
        await go_live(opened)
        await asked.wait()
        assert not await opened.page.locator("#share").is_visible(), "nobody knows whose it is"
        answered.set()
        await opened.says("#notice", "This name is taken")
        await opened.says("#state", "not live")
        assert not await opened.page.locator("#share").is_visible()
        assert await opened.page.evaluate("document.activeElement.id") == "name"
        await asyncio.sleep(1.5)  # longer than the gateway said
        assert len(offers) == 1
        await opened.page.click("#notice-button")
        await eventually(lambda: len(offers) == 2)
        opened.check()


async def test_a_name_that_the_page_itself_may_hold_is_waited_for_a_moment(
    site: Site, browser: Browser
) -> None:
    offer(site)
    site.node.fail = TAKEN
    async with tab(browser, site.server.url) as opened:
        offers = offers_of(opened)
        # Only the page that is loaded next finds it: this one may not have looked yet.
        await opened.page.add_init_script("sessionStorage.setItem('relay.live', 'camera')")
        await opened.page.reload()
        await opened.says("#notice", "Trying again in 1 s")
        await opened.says("#notice", "Choose another one")
        await opened.says("#state", "not live")
        assert 2 <= len(offers) <= 4
        opened.check()


async def test_a_bad_name_is_pointed_at(site: Site, browser: Browser) -> None:
    offer(site)
    async with tab(browser, site.server.url) as opened:
        await opened.page.fill("#name", "ä ö")
        await go_live(opened)
        await opened.says("#notice", "cannot be an address")
        assert await opened.page.evaluate("document.activeElement.id") == "name"


async def test_the_publish_key_is_asked_for_in_a_field(
    make_site: MakeSite, browser: Browser
) -> None:
    site = await make_site(publish_key="k")
    offer(site)
    async with tab(browser, site.server.url) as opened:
        await go_live(opened)
        await opened.says("#notice", "publish key")
        await opened.page.fill("#key", "wrong")
        await opened.page.click("#go")
        await opened.says("#notice", "does not know this publish key")
        assert not site.node.published
        await opened.page.fill("#key", "k")
        site.node.fail = Unavailable("x")
        await opened.page.click("#go")
        await opened.says("#notice", "No capacity")


async def test_a_gateway_that_is_away_is_said_so(site: Site, browser: Browser) -> None:
    offer(site)
    async with tab(browser, site.server.url) as opened:
        await opened.page.click("#camera")
        await opened.until("document.querySelector('#input').videoWidth > 0")
        await site.server.stop()
        await opened.page.click("#go")
        await opened.says("#notice", "Is it running?")


async def test_no_orchestrator_is_said_so(site: Site, browser: Browser) -> None:
    async with tab(browser, site.server.url) as opened:
        await opened.says("#notice", "No orchestrator answers")
        offer(site)
        await opened.page.get_by_role("radio", name="Plain").wait_for()
        assert not await opened.page.locator("#notice").is_visible()


async def test_everything_has_a_name_and_the_page_a_language(site: Site, browser: Browser) -> None:
    offer(site)
    async with tab(browser, site.server.url) as opened:
        await opened.page.get_by_role("radio", name="Plain").wait_for()
        nameless = await opened.page.evaluate(
            """() => [...document.querySelectorAll("button, a, input, select, textarea, video")]
              .filter((one) => !one.hidden && !(one.labels?.length || one.textContent.trim()
                || one.getAttribute("aria-label")))
              .map((one) => one.outerHTML)"""
        )
        assert nameless == []
        assert await opened.page.locator("html").get_attribute("lang") == "en"


async def test_it_fits_a_phone(site: Site, browser: Browser) -> None:
    offer(site)
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
    async with tab(browser, site.server.url, **phone) as opened:
        await opened.page.get_by_role("radio", name="Plain").wait_for()
        wide = await opened.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390
        small = await opened.page.evaluate(
            """() => [...document.querySelectorAll("button, .button, select")]
              .filter((one) => one.offsetParent && one.getBoundingClientRect().height < 32)
              .map((one) => one.id)"""
        )
        assert small == []


async def test_sound_is_switched_by_the_same_word_on_both_pages(
    site: Site, browser: Browser
) -> None:
    says = "document.querySelector('#sound').textContent"
    async with tab(browser, f"{site.server.url}/watch/cam") as viewer:
        assert await viewer.page.evaluate(says) == "Unmute"
    async with tab(browser, site.server.url) as opened:
        assert await opened.page.evaluate(says) == "Unmute"
        await opened.page.evaluate("document.querySelector('#sound').click()")
        assert await opened.page.evaluate(says) == "Mute"
        assert not await opened.page.evaluate("document.querySelector('#output').muted")
        await opened.page.evaluate("document.querySelector('#sound').click()")
        assert await opened.page.evaluate(says) == "Unmute"
        opened.check()
