"""The real gateway behind the HTTP side: the conformance checklist, without media.

No orchestrator answers here; what an offer, a fragment or a session is worth does not
depend on one.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from relay.api.app import build_app
from relay.api.server import Server
from relay.config import Gateway
from relay.gateway.node import GatewayNode
from tests.network import eventually
from tests.protocols.webrtc import offers

SDP = {"Content-Type": "application/sdp"}
FRAG = {"Content-Type": "application/trickle-ice-sdpfrag"}
TRICKLE = (
    f"a=ice-ufrag:{offers.UFRAG}\r\na=ice-pwd:{offers.PWD}\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
    "a=candidate:1 1 udp 2122260223 192.0.2.7 61764 typ host\r\n"
)
RESTART = TRICKLE.replace(offers.UFRAG, "ysXw").replace(offers.PWD, "vw5LmwG4y/e6dPP/zAP9Gp5k")


@dataclass
class Answer:
    status: int
    headers: Any
    text: str

    @property
    def code(self) -> str:
        return str(json.loads(self.text)["code"])


@dataclass
class Live:
    node: GatewayNode
    url: str
    http: aiohttp.ClientSession

    async def call(
        self, method: str, path: str, data: str | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        async with self.http.request(
            method, f"{self.url}{path}", data=data, headers=headers
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.text())

    async def publish(self, name: str = "cam", offer: str = "", **headers: str) -> Answer:
        return await self.call("POST", f"/whip/{name}", offer or offers.publisher(), SDP | headers)

    async def play(self, name: str = "cam", offer: str = "") -> Answer:
        return await self.call("POST", f"/whep/{name}", offer or offers.viewer(), SDP)

    async def patch(self, path: str, body: str, tag: str | None = "*") -> Answer:
        headers = FRAG if tag is None else FRAG | {"If-Match": tag}
        return await self.call("PATCH", path, body, headers)


MakeLive = Callable[..., Awaitable[Live]]


@asynccontextmanager
async def gateways() -> AsyncIterator[MakeLive]:
    """What makes gateways; they end with the block."""
    opened: list[tuple[Live, Server]] = []

    async def make(**settings: Any) -> Live:
        wanted = {"orchestrators": [], "webrtc": {"port": 0}} | settings
        node = GatewayNode(Gateway(**wanted))
        await node.start()
        server = Server(build_app(node), host="127.0.0.1", port=0)
        await server.start()
        opened.append((Live(node, server.url, aiohttp.ClientSession()), server))
        return opened[-1][0]

    yield make
    for live, server in opened:
        await live.http.close()
        await server.stop()
        await live.node.stop()


@pytest.fixture
async def make_live() -> AsyncIterator[MakeLive]:
    async with gateways() as make:
        yield make


@pytest.fixture
async def live(make_live: MakeLive) -> Live:
    return await make_live()


async def test_a_publisher_is_answered_whole(live: Live) -> None:
    answer = await live.publish()
    assert answer.status == 201
    assert answer.text.startswith("v=0\r\n")
    assert answer.text.count("a=recvonly") == 2
    assert "a=candidate:" in answer.text
    assert re.fullmatch(r'"[^"]+"', answer.headers["ETag"])
    path = answer.headers["Location"]
    assert (await live.call("OPTIONS", path)).status == 200
    assert (await live.call("GET", path)).status == 204
    (status,) = live.node.streams()
    assert (status.name, status.state) == ("cam", "connecting")


async def test_secrets_and_credentials_never_repeat(live: Live) -> None:
    answers = [await live.play(f"cam{number}") for number in range(30)]
    paths = {answer.headers["Location"] for answer in answers}
    ufrags = {re.findall(r"a=ice-ufrag:(\S+)", answer.text)[0] for answer in answers}
    assert len(paths) == len(ufrags) == 30
    assert min(len(path) for path in paths) >= len("/session/") + 22  # 128 bits in base 64


@pytest.mark.parametrize("offer", [offers.CHROMIUM, offers.OBS, offers.FFMPEG])
async def test_real_clients_offers_are_taken(live: Live, offer: str) -> None:
    assert (await live.publish(offer=offer)).status == 201


@pytest.mark.parametrize(
    ("offer", "status", "code"),
    [
        ("not sdp", 400, "sdp_parse"),
        ('{"sdp": "v=0"}', 400, "sdp_parse"),
        (offers.viewer(), 422, "direction"),
        (offers.publisher().replace("H264", "VP8"), 422, "no_h264"),
    ],
    ids=["text", "json", "recvonly", "vp8"],
)
async def test_an_offer_that_cannot_be_served_takes_no_name(
    live: Live, offer: str, status: int, code: str
) -> None:
    answer = await live.publish(offer=offer)
    assert (answer.status, answer.code) == (status, code)
    assert all(status.started is None for status in live.node.streams())
    assert (await live.publish()).status == 201


async def test_trickle_as_clients_send_it(live: Live) -> None:
    answer = await live.publish()
    path, tag = answer.headers["Location"], answer.headers["ETag"]
    for good in (tag, "*", '"*"', f'"other", {tag}', tag.strip('"')):
        told = await live.patch(path, TRICKLE, good)
        assert (told.status, told.text) == (204, "")
        assert "ETag" not in told.headers
    for bad in ('"stale"', f"W/{tag}"):
        assert (await live.patch(path, TRICKLE, bad)).status == 412
    assert (await live.patch(path, TRICKLE, None)).status == 428
    assert (await live.patch(path, "garbage", tag)).status == 400
    odd = TRICKLE.replace("192.0.2.7", "4f0c.local").replace("\r\n", "\n")
    assert (await live.patch(path, odd, tag)).status == 204
    assert (await live.patch(path, "a=end-of-candidates\r\n", tag)).status == 204


async def test_an_ice_restart_gives_new_credentials(live: Live) -> None:
    answer = await live.publish()
    path, tag = answer.headers["Location"], answer.headers["ETag"]
    told = await live.patch(path, RESTART)
    assert told.status == 200
    assert told.headers["Content-Type"] == FRAG["Content-Type"]
    assert told.headers["ETag"] != tag
    old = re.findall(r"a=ice-ufrag:(\S+)", answer.text)[0]
    assert f"a=ice-ufrag:{old}\r\n" not in told.text
    trickle = RESTART
    assert (await live.patch(path, trickle, tag)).status == 412
    assert (await live.patch(path, trickle, told.headers["ETag"])).status == 204
    assert (await live.patch(path, TRICKLE, told.headers["ETag"])).status == 412


async def test_a_flood_of_patches_is_429_and_the_session_lives(live: Live) -> None:
    path = (await live.publish()).headers["Location"]
    codes = {(await live.patch(path, TRICKLE)).status for _ in range(120)}
    assert codes == {204, 429}
    assert (await live.call("GET", path)).status == 204


async def test_the_end_by_delete(live: Live) -> None:
    for answer in (await live.publish(), await live.play()):
        path = answer.headers["Location"]
        assert (await live.call("DELETE", path, headers={"If-Match": '"stale"'})).status == 200
        assert (await live.call("DELETE", path)).status == 404
        assert (await live.call("GET", path)).status == 404
        assert (await live.patch(path, TRICKLE)).status == 404


async def test_a_session_that_never_connects_is_let_go(make_live: MakeLive) -> None:
    live = await make_live(webrtc={"port": 0, "connect_timeout": 0.2})
    path = (await live.publish()).headers["Location"]

    async def gone() -> bool:
        return (await live.call("GET", path)).status == 404

    ended: bool = await eventually(gone, 5)
    assert ended


async def test_a_viewer_waits_for_a_publisher(live: Live) -> None:
    answer = await live.play()
    assert answer.status == 201
    assert answer.text.count("a=sendonly") == 2
    (status,) = live.node.streams()
    assert (status.name, status.state, status.input) == ("cam", "waiting", None)
    shown = await live.call("GET", "/v1/streams/cam")
    assert json.loads(shown.text)["state"] == "waiting"


async def test_a_viewer_that_sends_is_422(live: Live) -> None:
    answer = await live.play(offer=offers.publisher())
    assert (answer.status, answer.code) == (422, "direction")


@pytest.mark.parametrize("name", [".hidden", "a-out", "%C3%A4", "a%20b", "a" * 129, "%00"])
async def test_names_that_cannot_be_are_400(live: Live, name: str) -> None:
    for answer in (await live.publish(name), await live.play(name)):
        assert (answer.status, answer.code) == (400, "bad_name")


async def test_the_key_opens_and_nothing_else(make_live: MakeLive) -> None:
    live = await make_live(publish_key="k")
    for headers, code in (({}, "key_required"), ({"Authorization": "Bearer x"}, "key_unknown")):
        answer = await live.publish(**headers)
        assert (answer.status, answer.code) == (401, code)
    assert not live.node.streams()
    answer = await live.publish(Authorization="bearer k")
    assert answer.status == 201
    path = answer.headers["Location"]
    wrong = {"Authorization": "Bearer x"}
    assert (await live.call("DELETE", path, headers=wrong)).status == 401
    assert (await live.call("DELETE", path)).status == 200


async def test_limits_are_503_with_a_time(make_live: MakeLive) -> None:
    live = await make_live(max_streams=1, max_viewers=1)
    assert (await live.publish("one")).status == 201
    assert (await live.play("one")).status == 201
    for answer in (await live.publish("two"), await live.play("one")):
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1


async def test_draining_is_told_everywhere(live: Live) -> None:
    await live.publish()
    live.node.draining = True
    assert (await live.call("GET", "/readyz")).status == 503
    for answer in (await live.publish("two"), await live.play()):
        assert (answer.status, answer.code) == (503, "draining")


async def test_a_stream_is_stopped_and_forgotten(live: Live) -> None:
    path = (await live.publish()).headers["Location"]
    assert (await live.call("DELETE", "/v1/streams/cam")).status == 204
    assert (await live.call("GET", path)).status == 404
    assert (await live.call("GET", "/v1/streams/cam")).status == 404


async def test_coming_and_going_leaves_nothing(live: Live) -> None:
    before = len(asyncio.all_tasks())
    for _ in range(100):
        for answer in (await live.publish(), await live.play()):
            path = answer.headers["Location"]
            assert (await live.call("DELETE", path)).status == 200
    await eventually(lambda: not live.node.streams())
    await eventually(lambda: len(asyncio.all_tasks()) <= before + 1)  # its jobs end behind it
