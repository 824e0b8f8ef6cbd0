"""A gateway with several addresses, of which Chromium and the streamer are told another one than
the kernel would answer from: the picture is there, from the gateway's process and from another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest

from relay.config import WebRtc
from relay.protocols.webrtc.processes.placement import Place
from tests.browser import Tab, chromium, tab
from tests.gateway.desk import gateway
from tests.gateway.seller import Seller
from tests.network import eventually

pytestmark = pytest.mark.browser

PLAY = """async (path) => {
  const pc = window.pc = new RTCPeerConnection();
  pc.addTransceiver("video", { direction: "recvonly" });
  await pc.setLocalDescription();
  const headers = { "Content-Type": "application/sdp" };
  const answer = await fetch(path, { method: "POST", headers, body: pc.localDescription.sdp });
  await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
}"""

# [our address as it has it, frames so far]
SEEN = """async () => {
  const told = [...(await window.pc.getStats()).values()];
  const pair = told.find(({ type, state, nominated }) =>
    type === "candidate-pair" && state === "succeeded" && nominated);
  const remote = told.find(({ id }) => id === pair?.remoteCandidateId);
  const stream = told.find(({ type, kind }) => type === "inbound-rtp" && kind === "video");
  return [remote?.address, stream?.framesDecoded ?? 0];
}"""


async def test_chromium_is_sent_the_picture_from_the_address_that_it_was_told() -> None:
    bound = WebRtc(
        host="0.0.0.0", port=0, egress_processes=1, public_addresses=["127.0.0.3=127.0.0.3"]
    )
    async with (
        Seller().running() as seller,
        gateway(seller, webrtc=bound) as desk,
        chromium() as browser,
        desk.filming(),
    ):
        egress = desk.node._egress
        await desk.live_at(seller)
        egress.start(1)
        await eventually(lambda: len(egress._ready()) == 1, every=0.01)
        for place in range(2):
            egress._choose = [first, last][place]
            async with tab(browser, desk.server.url) as opened:
                await opened.page.evaluate(PLAY, desk.whep.removeprefix(desk.server.url))
                await eventually(partial(plays, opened), 15)
                assert len(egress._processes[1].sessions) == place


def first(places: Sequence[Place]) -> int:
    return 0


def last(places: Sequence[Place]) -> int:
    return len(places) - 1


async def plays(opened: Tab) -> bool:
    address, frames = await opened.page.evaluate(SEEN)
    return bool(address == "127.0.0.3" and frames > 10)
