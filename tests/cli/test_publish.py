"""What ``relay publish`` says of a stream that the gateway ended, and of wrong words."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from relay.api.app import build_app
from relay.api.server import Server
from relay.cli import clip, lookout, persistence, publish
from relay.config import Gateway
from relay.errors import ConfigError, PeerError
from relay.gateway.node import GatewayNode
from relay.media.unit import AccessUnit
from relay.protocols.webrtc import client
from relay.worker.file import FileSource, write_file
from tests.gateway.desk import NAME, gateway
from tests.gateway.seller import MODEL, Seller
from tests.network import eventually


@pytest.fixture
async def node() -> AsyncIterator[tuple[GatewayNode, str]]:
    """A gateway that nobody serves, and its address."""
    settings = Gateway.model_validate({"orchestrators": [], "webrtc": {"port": 0}})
    made = GatewayNode(settings)
    await made.start()
    server = Server(build_app(made), host="127.0.0.1", port=0)
    await server.start()
    yield made, server.url
    await server.stop()
    await made.stop()


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_file(path, clip.encoded(2, width=320, height=240))
    return path


@pytest.mark.parametrize("starved", [False, True])
async def test_an_end_is_told_with_the_gateways_reason(
    node: tuple[GatewayNode, str], clip_file: Path, starved: bool
) -> None:
    node_, url = node
    request = publish.Request(clip_file, f"{url}/whip/cam", None, loop=True)
    publishing = asyncio.create_task(publish.publish(request, FileSource(clip_file)))
    await eventually(lambda: any(s.input is not None and s.input.bytes for s in node_.streams()))
    if starved:
        node_._paths["cam"].cannot_serve("no_keyframe", "it sent no key frame for 60 seconds")
    else:
        await node_.stop_stream("cam")
    words = "it sent no key frame for 60 seconds" if starved else "stopped"
    with pytest.raises(PeerError, match=f"the gateway ended the stream: .*{words}"):
        await asyncio.wait_for(publishing, 20)


async def test_a_file_that_nobody_served_is_an_error(
    node: tuple[GatewayNode, str], clip_file: Path
) -> None:
    request = publish.Request(clip_file, f"{node[1]}/whip/cam", None, loop=False, as_json=True)
    with pytest.raises(PeerError, match="sent 60 frames, but nobody served the stream: ") as told:
        await asyncio.wait_for(publish.publish(request, FileSource(clip_file)), 20)
    assert told.value.code == "not_served"


@pytest.mark.parametrize("seen", [False, True], ids=["unseen", "seen"])
async def test_a_model_that_nobody_offers_ends_it_unless_the_source_is_shown(
    clip_file: Path, monkeypatch: pytest.MonkeyPatch, seen: bool
) -> None:
    monkeypatch.setattr(lookout, "INTERVAL", 0.05)
    async with (
        Seller().running() as seller,
        gateway(seller, show_source_while_switching=seen) as desk,
    ):
        to = f"{desk.server.url}/whip/{NAME}"
        request = publish.Request(clip_file, to, None, loop=not seen, model="nosuch", as_json=True)
        publishing = publish.publish(request, FileSource(clip_file))
        with pytest.raises(PeerError) as told:
            await asyncio.wait_for(publishing, 20)
        if seen:  # its end ends it
            assert told.value.code == "not_served"
            assert "until then viewers see it unprocessed" in str(told.value)
        else:
            assert told.value.code == "not_offered"
            assert f"no orchestrator offers “nosuch”: there is {MODEL} (--wait" in str(told.value)


async def test_who_asks_to_wait_goes_on_while_nobody_offers_it(
    clip_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "INTERVAL", 0.05)
    async with Seller().running() as seller, gateway(seller) as desk:
        to = f"{desk.server.url}/whip/{NAME}"
        request = publish.Request(
            clip_file, to, None, loop=False, model="nosuch", as_json=True, wait=True
        )
        with pytest.raises(PeerError, match="sent 60 frames, but nobody served"):
            await asyncio.wait_for(publish.publish(request, FileSource(clip_file)), 20)


async def test_it_goes_on_for_a_while_without_its_gateway_and_says_each_change(
    node: tuple[GatewayNode, str],
    clip_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(persistence, "TRIED_FOR", 0.5)
    monkeypatch.setattr(persistence, "WAITS", (0.1, 0.2))
    node_, url = node
    request = publish.Request(clip_file, f"{url}/whip/cam", None, loop=True)
    publishing = asyncio.create_task(publish.publish(request, FileSource(clip_file)))
    await eventually(lambda: any(s.input is not None and s.input.bytes for s in node_.streams()))
    await node_.stop()  # it answers by HTTP, and takes nobody
    with pytest.raises(PeerError, match="going away; tried again for ") as told:
        await asyncio.wait_for(publishing, 20)
    assert told.value.code == "ended"
    said = capsys.readouterr().err
    assert re.search(r"the connection is lost: .*; trying again for up to 60 s\n", said)
    assert said.count("going away; still trying\n") == 1


async def test_a_new_connection_begins_with_a_key_frame_and_later_than_the_last_one(
    clip_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[list[AccessUnit]] = []

    class Client(client.WhipClient):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.sent: list[AccessUnit] = []
            connections.append(self.sent)

        def send(self, unit: AccessUnit) -> None:
            self.sent.append(unit)
            super().send(unit)

    monkeypatch.setattr(publish, "WhipClient", Client)
    async with gateway() as desk:
        request = publish.Request(clip_file, desk.whip, None, loop=True, as_json=True)
        publishing = asyncio.create_task(publish.publish(request, FileSource(clip_file)))
        # The clip has a key frame each 60 pictures.
        await eventually(lambda: connections and 20 < len(_pictures(connections[0])) % 60 < 40)
        publisher = desk.path._publisher
        assert publisher is not None
        assert publisher.session is not None
        await publisher.session.close("no sign of life")
        await eventually(lambda: len(connections) > 1 and len(_pictures(connections[1])) > 40)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
    before, after = connections[0], connections[1]
    assert after[0].keyframe
    times = [unit.pts for unit in _pictures(after)]
    assert {b - a for a, b in pairwise(times)} == {3000}
    assert times[0] > before[-1].pts
    sound = [unit.pts for unit in after if not unit.is_video]
    assert 0 <= sound[0] - times[0] < 1800


def _pictures(units: list[AccessUnit]) -> list[AccessUnit]:
    return [unit for unit in units if unit.is_video]


async def test_a_gateway_whose_port_is_closed_is_not_waited_for(
    clip_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(persistence, "TRIED_FOR", 0.5)
    monkeypatch.setattr(persistence, "STEADY", 0.0)
    monkeypatch.setattr(persistence, "WAITS", (0.1,))
    monkeypatch.setattr(publish, "CONSENT", 60.0)
    monkeypatch.setattr(client, "SILENT", -1.0)
    async with gateway() as desk:
        request = publish.Request(clip_file, desk.whip, None, loop=True)
        publishing = asyncio.create_task(publish.publish(request, FileSource(clip_file)))
        await eventually(lambda: any(s.input and s.input.bytes for s in desk.node.streams()))
        await asyncio.sleep(2 * publish.LOOK)
        assert not publishing.done()  # it is asked, and knows the session
        await desk.server.stop()
        words = f"{desk.server.url} does not answer: connection refused"
        with pytest.raises(PeerError, match=f"^{words}; tried again for "):
            await asyncio.wait_for(publishing, 20)
    said = capsys.readouterr().err.splitlines()
    lost = said.index("the connection is lost: the server is gone; trying again for up to 60 s")
    assert said[lost + 1 :] == [f"{words}; still trying"]


async def test_a_file_that_ends_without_its_gateway_is_an_error(
    node: tuple[GatewayNode, str], clip_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persistence, "WAITS", (9.0,))
    node_, url = node
    request = publish.Request(clip_file, f"{url}/whip/cam", None, loop=False, as_json=True)
    publishing = asyncio.create_task(publish.publish(request, FileSource(clip_file)))
    await eventually(lambda: any(s.input is not None and s.input.bytes for s in node_.streams()))
    await node_.stop()
    with pytest.raises(PeerError, match=r"clip\.mp4 ended without a connection: "):
        await asyncio.wait_for(publishing, 20)


@pytest.mark.parametrize("to", ["127.0.0.1:9935/whip/a", "rtmp://a/live", "/whip/a", ""])
def test_an_address_of_another_kind_is_refused(to: str) -> None:
    with pytest.raises(ConfigError, match="is no http:// or https:// address"):
        publish.run(publish.Request(Path("a.mp4"), to, None, loop=False))


async def test_a_base_address_is_told_with_the_form_of_a_streams(
    node: tuple[GatewayNode, str], clip_file: Path
) -> None:
    base = node[1]
    request = publish.Request(clip_file, base, None, loop=False)
    with pytest.raises(PeerError) as told:
        await publish.publish(request, FileSource(clip_file))
    form = f"(the WHIP address of a gateway's stream is {base}/whip/NAME)"
    assert str(told.value).startswith("405: ")
    assert str(told.value).endswith(form)


@pytest.mark.parametrize(
    "place",
    ["/whep/a", "/watch/a", "/live/video-to-video/a-out/whep"],
    ids=["whep", "page", "live"],
)
def test_an_address_to_watch_at_is_told_with_the_one_to_publish_to(place: str) -> None:
    with pytest.raises(ConfigError, match=r"of the same stream it is https://b:9/whip/a$"):
        publish.run(publish.Request(Path("a.mp4"), f"https://b:9{place}", None, loop=False))
