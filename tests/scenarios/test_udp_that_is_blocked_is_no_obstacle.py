"""Streamer and viewer in Chromium, with TCP alone between them and the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.browser import CAMERA, LEAVE, Tab, chromium, tab
from tests.network import Network, eventually
from tests.scene import camera_file

pytestmark = pytest.mark.browser

# What a firewall that lets no UDP through comes to: the page never hears of our UDP port.
# Its own checks by UDP stay at home too, as they go to the addresses of the answer.
FIREWALL = """() => {
  const set = RTCPeerConnection.prototype.setRemoteDescription;
  window.connections = [];
  RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
    const lines = sdp.split("\\r\\n");
    const kept = lines.filter((line) => !line.startsWith("a=candidate") || line.includes(" tcp "));
    window.connections.push(this);
    return set.call(this, { type, sdp: kept.join("\\r\\n") });
  };
}"""

# [protocol, number of frames] of the newest connection.
SEEN = """async () => {
  const told = [...(await window.connections.at(-1).getStats()).values()];
  const pair = told.find(({ type, state, nominated }) =>
    type === "candidate-pair" && state === "succeeded" && nominated);
  const stream = told.find(({ type, kind }) =>
    ["inbound-rtp", "outbound-rtp"].includes(type) && kind === "video");
  const remote = told.find(({ id }) => id === pair?.remoteCandidateId);
  return [remote?.protocol, stream?.framesDecoded ?? stream?.framesEncoded ?? 0];
}"""


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    scene = camera_file(tmp_path / "scene.mjpeg")
    async with chromium(CAMERA, LEAVE, f"--use-file-for-fake-video-capture={scene}") as opened:
        yield opened


async def frames(opened: Tab, count: int) -> list[Any] | None:
    seen: list[Any] = await opened.page.evaluate(SEEN)
    return seen if seen[1] >= count else None


async def test_a_streamer_and_a_viewer_come_by_tcp(browser: Browser, tmp_path: Path) -> None:
    async with Network.running(tmp_path, gateway__webrtc__tcp_port=0) as network:
        leave = {"permissions": ["camera", "microphone"]}
        async with tab(browser, network.url, **leave) as studio:
            await studio.page.get_by_role("radio", name="Duotone").wait_for()
            await studio.page.evaluate(FIREWALL)
            await studio.page.click("#camera")
            await studio.until("document.querySelector('#input').videoWidth > 0")
            await studio.page.click("#go")
            await studio.says("#state", "live")
            name = await studio.page.input_value("#name")
            assert (await eventually(lambda: frames(studio, 30), 15))[0] == "tcp"
            async with tab(browser, network.url) as viewer:
                await viewer.page.evaluate(FIREWALL)
                await viewer.page.evaluate(
                    """async (url) => {
                      const pc = new RTCPeerConnection();
                      pc.addTransceiver("video", { direction: "recvonly" });
                      await pc.setLocalDescription();
                      const headers = { "Content-Type": "application/sdp" };
                      const body = pc.localDescription.sdp;
                      const answer = await fetch(url, { method: "POST", headers, body });
                      await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
                    }""",
                    f"/whep/{name}",
                )
                assert (await eventually(lambda: frames(viewer, 30), 15))[0] == "tcp"
