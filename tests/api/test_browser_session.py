"""The pages' own WHIP and WHEP modules in Chromium, against the real gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.api.test_gateway import Live, MakeLive, gateways
from tests.browser import Tab, chromium, tab
from tests.network import eventually

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

# A moving picture without a camera, published by the module that the studio uses.
PUBLISH = """async (name) => {
  const { publish } = await import("/web/whip.js");
  const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
  const context = canvas.getContext("2d");
  setInterval(() => {
    context.fillStyle = `hsl(${performance.now() / 10} 80% 50%)`;
    context.fillRect(0, 0, 320, 180);
  }, 33);
  window.ended = null;
  window.session = await publish(`/whip/${name}`, canvas.captureStream(30), {
    onend: (reason) => (window.ended = reason),
  });
}"""
CONNECTED = "window.session.pc.connectionState === 'connected'"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Of all tests here; each has a profile of its own."""
    async with chromium() as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def make_live() -> AsyncIterator[MakeLive]:
    async with gateways() as make:
        yield make


@pytest_asyncio.fixture(loop_scope="module")
async def live(make_live: MakeLive) -> Live:
    return await make_live()


@pytest_asyncio.fixture(loop_scope="module")
async def opened(browser: Browser, live: Live) -> AsyncIterator[Tab]:
    async with tab(browser, live.url) as page:
        await page.page.evaluate(PUBLISH, "cam")
        await page.until(CONNECTED)
        yield page


def input_of(live: Live) -> Any:
    return live.node.stream("cam").input


async def test_media_arrives_and_only_h264_was_offered(live: Live, opened: Tab) -> None:
    await eventually(lambda: input_of(live) is not None and input_of(live).width == 320)
    sdp = await opened.page.evaluate("window.session.pc.localDescription.sdp")
    assert "H264/90000" in sdp
    assert not any(f"{other}/90000" in sdp for other in ("VP8", "VP9", "AV1", "H265"))
    opened.check()


async def test_ice_restarts_and_media_goes_on(live: Live, opened: Tab) -> None:
    before = await opened.page.evaluate("[window.session.etag, window.session.location.href]")
    await opened.page.evaluate("window.session.restart()")
    after = await opened.page.evaluate("[window.session.etag, window.session.location.href]")
    assert after[0] != before[0]
    assert after[1] == before[1]
    packets = input_of(live).packets
    await eventually(lambda: input_of(live).packets > packets + 30)
    assert await opened.page.evaluate(CONNECTED)
    assert await opened.page.evaluate("[window.ended, window.session.restarting]") == [None, False]
    opened.check()


async def test_a_session_that_the_gateway_ends_is_known_at_once(live: Live, opened: Tab) -> None:
    await live.node.stop_stream("cam")
    await opened.until("['closed', 'gone'].includes(window.ended)", 3)
    # A request of the page's own for its session may have come just after the end.
    path = await opened.page.evaluate("window.session.location.pathname")
    assert all("404" in said and said.endswith(path) for said in opened.refusals), opened.refusals
    opened.check()


async def test_a_stopped_stream_is_told_from_a_lost_one(live: Live, opened: Tab) -> None:
    path = await opened.page.evaluate("window.session.location.pathname")
    assert await opened.page.evaluate("window.session.lastWord()") is None
    assert (await live.call("DELETE", "/v1/streams/cam")).status == 204
    await opened.until("window.ended !== null", 3)
    assert await opened.page.evaluate("window.session.lastWord()") == "stream_stopped"
    for method in ("GET", "DELETE"):
        answer = await live.call(method, path)
        assert (answer.status, answer.code) == (404, "stream_stopped")
    answer = await live.call("GET", path + "x")
    assert (answer.status, answer.code) == (404, "session_not_found")
    opened.check()


async def test_closing_a_session_tells_the_gateway(live: Live, opened: Tab) -> None:
    path = await opened.page.evaluate("window.session.location.pathname")
    await opened.page.evaluate("window.session.close()")

    async def gone() -> bool:
        return (await live.call("GET", path)).status == 404

    ended: bool = await eventually(gone, 3)
    assert ended
    assert await opened.page.evaluate("window.ended") is None
    assert not opened.refusals
    opened.check()


async def test_a_publication_can_be_called_off(make_live: MakeLive, browser: Browser) -> None:
    live = await make_live(max_streams=1)
    async with tab(browser, live.url) as opened:
        await opened.page.evaluate(PUBLISH, "one")
        code = await opened.page.evaluate(
            """async () => {
              const { publish } = await import("/web/whip.js");
              const canvas = document.createElement("canvas");
              canvas.getContext("2d");
              const stop = new AbortController();
              const waits = [];
              const wanted = publish("/whip/two", canvas.captureStream(1), {
                signal: stop.signal,
                onwait: (failure, seconds) => {
                  waits.push(failure.code, seconds);
                  stop.abort();
                },
              });
              return wanted.then(() => "live", (failure) => [failure.code, ...waits]);
            }"""
        )
        assert code == ["stopped", "unavailable", 10]
