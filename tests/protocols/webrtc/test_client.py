"""Our own clients, through a small WHIP and WHEP server, on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager

import pytest
from aiohttp import web

from relay.config import WebRtc
from relay.errors import PeerError, PeerRefused, PeerTimeout, RelayError
from relay.media.unit import AccessUnit, Codec
from relay.protocols.webrtc import client as client_module
from relay.protocols.webrtc import resource
from relay.protocols.webrtc.client import WhepClient, WhipClient
from relay.protocols.webrtc.egress import Egress
from relay.protocols.webrtc.h264_payload import packetize
from relay.protocols.webrtc.ingest import Ingest, IngestSession
from relay.protocols.webrtc.peer import PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.session import Session

PARAMETERS = bytes.fromhex("000000016742c01fd900a0047fe5840000000168cb83cb20")
IDR = PARAMETERS + b"\x00\x00\x00\x01\x65" + b"\x88" * 5000
DELTA = b"\x00\x00\x00\x01\x41" + b"\x9a" * 700
OPUS = b"\xfc" + b"\x11" * 80
LOOPBACK = WebRtc(host="127.0.0.1", port=0)


class Relay:
    """A gateway without a network behind it: what is published is played."""

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        self.ingest = Ingest(peers)
        self.egress = Egress(peers)
        self.units: list[AccessUnit] = []
        self.reasons: list[str] = []
        self.tokens: list[str | None] = []
        self.sessions: dict[str, Session] = {}
        self.published: IngestSession | None = None
        self.heard = asyncio.Event()
        self.egress.open("out", on_keyframe_wanted=self._keyframe)

    def _keyframe(self) -> None:
        if self.published is not None:
            self.published.request_keyframe()

    def unit(self, unit: AccessUnit) -> None:
        self.units.append(unit)
        self.heard.set()
        pts = unit.pts
        if unit.codec is Codec.H264:
            payloads = packetize(unit.payload)
            self.egress.frame("out", Codec.H264, payloads, pts, keyframe=unit.keyframe)
        else:
            self.egress.frame("out", Codec.OPUS, [unit.payload], pts * 48 // 90)

    def closed(self, reason: str) -> None:
        self.reasons.append(reason)

    def _created(self, request: web.Request, session: Session) -> web.Response:
        self.tokens.append(request.headers.get("Authorization"))
        self.sessions[session.id] = session
        headers = {"Location": f"/session/{session.id}", "ETag": session.etag}
        return web.Response(
            status=201, text=session.answer, content_type="application/sdp", headers=headers
        )

    async def whip(self, request: web.Request) -> web.Response:
        try:
            self.published = await self.ingest.answer(await request.text(), self)
        except RelayError as error:
            return web.Response(status=error.status, text=str(error))
        return self._created(request, self.published)

    async def whep(self, request: web.Request) -> web.Response:
        return self._created(request, await self.egress.answer("out", await request.text()))

    async def delete(self, request: web.Request) -> web.Response:
        self.tokens.append(request.headers.get("Authorization"))
        await self.sessions.pop(request.match_info["id"]).close("deleted")
        return web.Response()


@asynccontextmanager
async def serving(routes: list[web.RouteDef]) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def relay(either: Peers) -> AsyncIterator[tuple[Relay, str]]:
    made = Relay(either)
    routes = [
        web.post("/whip", made.whip),
        web.post("/whep", made.whep),
        web.delete("/session/{id}", made.delete),
    ]
    async with serving(routes) as base:
        yield made, base
    await made.egress.close("out", "over")


async def until(condition: Callable[[], object]) -> None:
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise TimeoutError


def video(index: int, *, keyframe: bool) -> AccessUnit:
    return AccessUnit(Codec.H264, IDR if keyframe else DELTA, 9000 + 3000 * index, 0.0, keyframe)


def audio(index: int) -> AccessUnit:
    return AccessUnit(Codec.OPUS, OPUS + bytes([index]), 9000 + 1800 * index, 0.0)


async def test_published_units_are_played(relay: tuple[Relay, str]) -> None:
    server, base = relay
    whip = await WhipClient.connect(f"{base}/whip", token="key")
    sent = [video(0, keyframe=True), audio(0)]
    for index in range(1, 10):
        sent += [video(index, keyframe=False), audio(index)]
    played: list[AccessUnit] = []
    packets: list[bytes] = []
    whep = await WhepClient.connect(
        f"{base}/whep", on_unit=played.append, on_rtp=lambda data, now: packets.append(data)
    )
    for unit in sent:
        whip.send(unit)
    await until(lambda: len(played) == len(sent))
    for codec in Codec:
        before = [unit for unit in sent if unit.codec is codec]
        after = [unit for unit in played if unit.codec is codec]
        assert [unit.payload for unit in after] == [unit.payload for unit in before]
        assert [u.pts - after[0].pts for u in after] == [u.pts - before[0].pts for u in before]
        assert [unit.keyframe for unit in after] == [unit.keyframe for unit in before]
    assert len(packets) >= len(sent)
    assert whep.statistics().lost == 0
    await whep.close()
    await whip.close()
    await until(lambda: server.reasons)
    assert server.reasons == ["deleted"]
    assert server.tokens == ["Bearer key", None, None, "Bearer key"]
    assert await whip.wait_closed()


async def test_a_key_frame_is_asked_for_through_the_whole_way(relay: tuple[Relay, str]) -> None:
    _, base = relay
    whip = await WhipClient.connect(f"{base}/whip", audio=False)
    assert whip.peer.audio is None
    whip.send(video(0, keyframe=True))
    played: list[AccessUnit] = []
    whep = await WhepClient.connect(f"{base}/whep", on_unit=played.append)
    whip.send(video(1, keyframe=False))
    await until(lambda: len(played) == 2)
    asked = asyncio.Event()
    whip.on_keyframe_request = asked.set
    whep.request_keyframe()
    async with asyncio.timeout(5):
        await asked.wait()
    await whep.close()
    await whip.close()


async def test_a_lost_packet_is_sent_again(relay: tuple[Relay, str]) -> None:
    server, base = relay
    whip = await WhipClient.connect(f"{base}/whip")
    transmit = whip.peer.transmit
    lose = {3}
    count = 0

    def lossy(data: bytes) -> None:
        nonlocal count
        count += 1
        if count not in lose:
            transmit(data)

    whip.peer.transmit = lossy
    whip.send(video(0, keyframe=True))
    whip.send(video(1, keyframe=False))
    await until(lambda: len(server.units) == 2)
    assert server.units[0].payload == IDR
    await whip.close()


async def test_nothing_is_sent_after_the_end(relay: tuple[Relay, str]) -> None:
    server, base = relay
    whip = await WhipClient.connect(f"{base}/whip")
    assert server.published is not None
    await server.published.close("kicked")
    async with asyncio.timeout(5):
        assert await whip.wait_closed() == "closed by the peer"
    whip.send(video(0, keyframe=True))
    await whip.close()
    assert server.units == []


UNKNOWN = '{"code": "session_not_found", "detail": "no such session"}'


@pytest.mark.parametrize(
    ("status", "text", "gone"),
    [(204, "", False), (404, "", False), (405, "", False), (500, "", False), (404, UNKNOWN, True)],
)
async def test_a_silent_session_ends_where_the_server_knows_it_no_more(
    either: Peers, monkeypatch: pytest.MonkeyPatch, status: int, text: str, gone: bool
) -> None:
    server = Relay(either)
    routes = [
        web.post("/whip", server.whip),
        web.get("/session/{id}", answering(status, text)),
        web.delete("/session/{id}", server.delete),
    ]
    async with serving(routes) as base:
        whip = await WhipClient.connect(f"{base}/whip", settings=LOOPBACK)
        assert not whip.silent
        assert not await whip.check()  # it is heard: nobody is asked
        monkeypatch.setattr(client_module, "SILENT", -1.0)
        assert whip.silent
        assert await whip.check() is gone
        assert (whip.peer.state is PeerState.CLOSED) is gone
        if gone:
            assert await whip.wait_closed() == "the server is gone"
        await whip.close()


async def test_a_silent_session_ends_where_the_server_is_gone(
    either: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Relay(either)
    async with serving([web.post("/whep", server.whep)]) as base:
        whep = await WhepClient.connect(f"{base}/whep", on_unit=server.unit, settings=LOOPBACK)
        monkeypatch.setattr(client_module, "SILENT", -1.0)
        assert not await whep.check()
    assert await whep.check()
    assert await whep.wait_closed() == "the server is gone"
    assert not await whep.check()
    await whep.close()
    await server.egress.close("out", "over")


async def test_a_silent_session_goes_on_where_the_server_does_not_answer_in_time(
    either: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = asyncio.Event()

    async def late(_: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.Response()

    monkeypatch.setattr(resource, "GOODBYE", 0.1)
    server = Relay(either)
    routes = [web.post("/whip", server.whip), web.get("/session/{id}", late)]
    async with serving([*routes, web.delete("/session/{id}", server.delete)]) as base:
        whip = await WhipClient.connect(f"{base}/whip", settings=LOOPBACK)
        monkeypatch.setattr(client_module, "SILENT", -1.0)
        assert not await whip.check()
        assert whip.peer.state is PeerState.CONNECTED
        over.set()
        await whip.close()


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answering(status: int, text: str = "", **headers: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=headers)

    return handler


@pytest.mark.parametrize(
    ("handler", "kind", "code", "retry_after"),
    [
        (answering(404), PeerRefused, "peer_refused", None),
        (
            answering(409, '{"code": "name_taken", "detail": "busy"}', **{"Retry-After": "1"}),
            PeerRefused,
            "name_taken",
            1,
        ),
        (answering(503, "[]"), PeerRefused, "peer_refused", None),
        (answering(201, "not a description"), PeerError, "bad_answer", None),
        (answering(201, "v=0\r\n"), PeerError, "bad_answer", None),
        (answering(201, "v=0\r\n" * 50_000), PeerError, "bad_answer", None),
    ],
)
@pytest.mark.parametrize("send", [True, False])
async def test_what_a_server_may_say_instead(
    handler: Handler, kind: type[PeerError], code: str, retry_after: int | None, send: bool
) -> None:
    async with serving([web.post("/x", handler)]) as base:
        with pytest.raises(kind) as caught:
            await dial(f"{base}/x", send=send)
    assert caught.value.code == code
    assert caught.value.retry_after == retry_after


async def dial(url: str, *, send: bool) -> WhipClient | WhepClient:
    if send:
        return await WhipClient.connect(url, settings=LOOPBACK)
    return await WhepClient.connect(url, on_unit=lambda unit: None, settings=LOOPBACK)


async def test_no_server_at_all() -> None:
    async with serving([]) as base:
        pass
    with pytest.raises(PeerError):
        await dial(f"{base}/x", send=True)


async def test_a_redirect_is_followed(relay: tuple[Relay, str]) -> None:
    server, base = relay
    async with serving([web.post("/x", answering(307, Location=f"{base}/whip"))]) as other:
        whip = await WhipClient.connect(f"{other}/x")
        await whip.close()
    assert server.reasons == ["deleted"]


async def test_a_server_out_of_reach_gets_less_time_than_one_that_thinks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "CONNECT", 0.2)
    with ExitStack() as stack:
        deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # its queue is full: who comes next hears nothing
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(deaf.getsockname())
        with pytest.raises(PeerTimeout, match="did not answer in time"):
            async with asyncio.timeout(resource.TIMEOUT / 2):
                await WhipClient.connect(f"http://127.0.0.1:{deaf.getsockname()[1]}/whip")


async def test_an_answer_that_leads_nowhere(
    relay: tuple[Relay, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, base = relay
    monkeypatch.setattr(client_module, "TIMEOUT", 0.2)
    server.peers.udp._loop.remove_reader(server.peers.udp._watched)
    where = f"127.0.0.1:{server.peers.udp.port}"
    with pytest.raises(PeerTimeout, match=f"not connected in time: nothing answered at {where}$"):
        await WhipClient.connect(f"{base}/whip")
    with pytest.raises(PeerError, match="not connected: not connected in time"):
        await WhipClient.connect(
            f"{base}/whip", settings=WebRtc(host="127.0.0.1", port=0, connect_timeout=0.1)
        )
    assert server.reasons == ["deleted", "deleted"]
