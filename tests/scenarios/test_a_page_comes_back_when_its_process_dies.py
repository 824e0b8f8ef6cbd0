"""Chromium is told by the gateway that the process which served it is dead, at once: the player
that shows its picture, and who is half-way in."""

from __future__ import annotations

import pytest

from relay.config import WebRtc
from tests.browser import chromium, tab
from tests.gateway.desk import gateway
from tests.gateway.seller import Seller
from tests.network import eventually
from tests.protocols.webrtc.processes.hall import running

pytestmark = pytest.mark.browser

PLAYER = """async (path) => {
  const { Player } = await import("/web/whep.js");
  const video = document.createElement("video");
  video.muted = true;
  document.body.prepend(video);
  window.said = [];
  const player = new Player(path, video);
  for (const type of ["connected", "picture", "lost"]) {
    player.addEventListener(type, ({ detail }) =>
      window.said.push([type, detail.reason ?? ""]));
  }
  player.start();
}"""

HALF_WAY = """async (path) => {
  window.pc = new RTCPeerConnection();
  pc.addTransceiver("video", { direction: "recvonly" });
  await pc.setLocalDescription();
  const [body, headers] = [pc.localDescription.sdp, { "Content-Type": "application/sdp" }];
  const answer = await (await fetch(path, { method: "POST", body, headers })).text();
  window.join = () => pc.setRemoteDescription({ type: "answer", sdp: answer });
}"""


async def test_it_is_told_and_plays_on() -> None:
    two = WebRtc(host="127.0.0.1", port=0, egress_processes=1)
    async with (
        Seller().running() as seller,
        gateway(seller, webrtc=two) as desk,
        chromium() as browser,
        desk.filming(),
        tab(browser, desk.server.url) as page,
    ):
        egress = desk.node._egress
        await desk.live_at(seller)
        egress.start(1)
        await eventually(lambda: len(egress._ready()) == 1, every=0.01)
        egress._choose = lambda places: len(places) - 1

        async def said() -> list[list[str]]:
            told: list[list[str]] = await page.page.evaluate("window.said")
            return told

        async def plays(times: int) -> bool:
            return [event for event, _ in await said()].count("picture") == times

        await page.page.evaluate(PLAYER, desk.whep.removeprefix(desk.server.url))
        await eventually(lambda: plays(1), 15)
        [far] = egress._processes[1].sessions.values()
        await eventually(lambda: far.farewell[1])
        running(egress._processes[1]).kill()
        await eventually(lambda: plays(2), 15)
        # Its own doubts would say that it failed, many seconds later.
        assert [reason for event, reason in await said() if event == "lost"] == ["closed"]
        await eventually(lambda: len(egress._ready()) == 1, every=0.01)
        await page.page.evaluate(HALF_WAY, desk.whep.removeprefix(desk.server.url))
        process = egress._processes[1]
        running(process).kill()
        await eventually(lambda: process._gone.is_set(), every=0.01)
        await page.page.evaluate("join()")  # its checks are refused; else it would try for 15 s
        await page.until("pc.connectionState === 'failed'", 3)
