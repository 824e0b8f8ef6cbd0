"""Cases of ICE, DTLS and media can fail: gateways that are wrong in one of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from relay.api.app import build_app
from relay.config import Gateway
from relay.conformance import endpoint, offering_ice, offering_media, suites
from relay.conformance.case import Outcome
from relay.conformance.endpoint import Side
from relay.errors import BadInput, RelayError, Unprocessable
from relay.gateway.node import GatewayNode
from relay.protocols.webrtc import session, stun
from relay.protocols.webrtc.credentials import Generations
from relay.protocols.webrtc.dtls import Dtls
from relay.protocols.webrtc.egress_session import EgressSession
from relay.protocols.webrtc.ice import IceSession
from relay.protocols.webrtc.native_track import NativeTrack
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.udp import UdpPort
from tests.conformance.test_wrong import changing, other_status, served
from tests.gateway.desk import gateway
from tests.gateway.seller import Seller
from tests.live import LOOPBACK

Spoil = Callable[[pytest.MonkeyPatch], None]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def outcomes(side: Side, url: str, *names: str) -> dict[str, Outcome]:
    cases = suites.chosen(suites.OFFERING, slow=False, abuse=True, only=names)
    return {r.name: r.outcome async for r in await suites.offering(side, url, "token", cases)}


@contextlib.asynccontextmanager
async def spoilt(spoil: Callable[[web.Application], None]) -> AsyncIterator[str]:
    """A gateway whose application is wrong; its address."""
    node = GatewayNode(Gateway(webrtc=LOOPBACK, orchestrators=[]))
    await node.start()
    app = build_app(node)
    spoil(app)
    try:
        async with served(app) as url:
            yield url
    finally:
        await node.stop()


def rewriting(change: Callable[[str], str]) -> Callable[[web.Application], None]:
    """Other answers to offers."""

    @web.middleware
    async def rewrite(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if response.status == 201 and isinstance(response, web.Response):
            assert isinstance(response.body, bytes)
            response.body = change(response.body.decode()).encode()
        return response

    return lambda app: app.middlewares.append(rewrite)


def _waits_for_nomination(patch: pytest.MonkeyPatch) -> None:
    heard = IceSession._heard

    def only_then(
        self: IceSession, path: Any, ours: Any, theirs: Any, message: Any, now: float
    ) -> None:
        if stun.USE_CANDIDATE in message.attributes:
            heard(self, path, ours, theirs, message, now)

    patch.setattr(IceSession, "_heard", only_then)
    patch.setattr(offering_ice, "HANDSHAKE", 0.5)


def _mute_on_conflict(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        IceSession,
        "_role_conflict",
        lambda self, message: stun.ICE_CONTROLLED in message.attributes,
    )
    patch.setattr(stun, "error", lambda *_: b"")


def _trusts_anybody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Dtls, "_is_who_it_should_be", lambda self: True)
    patch.setattr(endpoint, "SOON", 1.0)


def _hears_no_goodbye(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Dtls, "_drain", lambda self: None)


def _shakes_no_hand(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Peer, "_handshake", lambda self, dtls, data, now: None)
    patch.setattr(offering_ice, "HANDSHAKE", 0.5)
    patch.setattr("relay.conformance.checker.HANDSHAKE", 0.5)


def _forgets_former(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(session, "_REMEMBERED_UFRAGS", 0)


def _keeps_the_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Generations, "_add", _only_two(Generations._add))


def _only_two(add: Callable[[Generations, Any], None]) -> Callable[[Generations, Any], None]:
    def add_until_two(self: Generations, credentials: Any) -> None:
        add(self, credentials)
        if credentials.number > 1:
            self._drop_name(credentials.ufrag.encode())

    return add_until_two


def _without_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(session, "_PATCH_BURST", 1e6)


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (_waits_for_nomination, ("hello-before-nomination",)),
        (_mute_on_conflict, ("role-conflict",)),
        (_trusts_anybody, ("foreign-certificate",)),
        (_hears_no_goodbye, ("goodbye", "close-notify")),
        (_shakes_no_hand, ("hello-before-nomination", "setup-is-obeyed")),
        (_forgets_former, ("restart-with-former",)),
        (_keeps_the_first, ("two-restarts",)),
        (_without_bound, ("patch-flood",)),
    ],
)
async def test_a_wrong_peer_fails(
    spoil: Spoil, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch)
    async with spoilt(lambda app: None) as url:
        told = await outcomes(Side.WHIP, f"{url}/whip/cam", *names)
    assert told == dict.fromkeys(names, Outcome.FAILED)


def _follows_any_check(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(IceSession, "_consider", lambda self, path, now: self._select(path))


def _ends_when_restarted(patch: pytest.MonkeyPatch) -> None:
    restart = session.Session._restart

    def end(self: session.Session, ufrag: str, pwd: str) -> session.PatchAnswer:
        answer = restart(self, ufrag, pwd)
        self.peer.end("restarted")
        return answer

    patch.setattr(session.Session, "_restart", end)


def _sends_anew_when_restarted(patch: pytest.MonkeyPatch) -> None:
    restart = session.Session._restart

    def renumber(self: session.Session, ufrag: str, pwd: str) -> session.PatchAnswer:
        assert isinstance(self, EgressSession)
        track = self.viewer.video
        assert isinstance(track, NativeTrack)
        track.native.ssrc += 1
        return restart(self, ufrag, pwd)

    patch.setattr(session.Session, "_restart", renumber)


def _ends_all_at_once(patch: pytest.MonkeyPatch) -> None:
    end = Peer.end

    def with_the_others(self: Peer, reason: str) -> None:
        connected = self.state is PeerState.CONNECTED
        for peer in list(self._peers._peers) if connected else [self]:
            end(peer, reason)

    patch.setattr(Peer, "end", with_the_others)


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (_follows_any_check, ("media-stays",)),
        (_ends_when_restarted, ("restart-in-mid-stream", "restart-that-fails")),
        (_sends_anew_when_restarted, ("restart-in-mid-stream",)),
        (_ends_all_at_once, ("one-of-many",)),
    ],
)
async def test_a_wrong_source_of_media_fails(
    spoil: Spoil, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offering_media, "VIEWERS", 3)
    async with Seller().running() as one, gateway(one) as desk, desk.filming():
        await desk.live_at(one)
        spoil(monkeypatch)
        for name in names:
            told = await outcomes(Side.WHEP, desk.whep, name)
            assert told == {name: Outcome.FAILED}
        monkeypatch.undo()


async def test_answers_with_two_streams_or_without_layers_fail() -> None:
    def apart(answer: str) -> str:
        return answer.replace("a=msid:", "a=msid:other", 1)

    async with spoilt(rewriting(apart)) as url:
        told = await outcomes(Side.WHEP, f"{url}/whep/cam", "one-stream")
        assert told == {"one-stream": Outcome.FAILED}
    async with spoilt(lambda app: changing(app, other_status(422, 201))) as url:
        told = await outcomes(Side.WHIP, f"{url}/whip/cam", "simulcast")
        assert told == {"simulcast": Outcome.FAILED}


async def test_layers_that_all_come_back_pass() -> None:
    layers = "a=rid:l recv\r\na=simulcast:recv l;m;h\r\n"

    def layered(app: web.Application) -> None:
        rewriting(lambda answer: answer + layers)(app)

        @web.middleware
        async def plain(request: web.Request, handler: Handler) -> web.StreamResponse:
            request._read_bytes = (await request.read()).replace(b"a=simulcast", b"a=other")
            return await handler(request)

        app.middlewares.append(plain)

    async with spoilt(layered) as url:
        told = await outcomes(Side.WHIP, f"{url}/whip/cam", "simulcast")
        assert told == {"simulcast": Outcome.PASSED}


@pytest.mark.parametrize(
    ("refusal", "ends"), [(Unprocessable, Outcome.PASSED), (BadInput, Outcome.FAILED)]
)
async def test_a_server_that_does_not_restart(
    refusal: type[RelayError], ends: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: session.Session, ufrag: str, pwd: str) -> session.PatchAnswer:
        raise refusal("no restarts", code="no_restart")

    monkeypatch.setattr(session.Session, "_restart", refuse)
    async with spoilt(lambda app: None) as url:
        told = await outcomes(Side.WHIP, f"{url}/whip/cam", "restart-refused")
        assert told == {"restart-refused": ends}


async def test_a_guess_that_can_be_told_by_its_time_fails() -> None:
    def slowly(_: web.Request, response: web.StreamResponse) -> None:
        if response.status == 404:
            time.sleep(0.1)

    async with spoilt(lambda app: changing(app, slowly)) as url:
        told = await outcomes(Side.WHIP, f"{url}/whip/cam", "guess-tells-nothing")
        assert told == {"guess-tells-nothing": Outcome.FAILED}


async def test_a_hello_of_a_stranger_that_is_answered_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hello(self: UdpPort) -> None:
        data, address = self._socket.recvfrom(2048)
        self._socket.sendto(data, address)

    monkeypatch.setattr(UdpPort, "_read", hello)
    monkeypatch.setattr(UdpPort, "read_natively", lambda self: None)
    async with spoilt(lambda app: None) as url:
        told = await outcomes(Side.WHIP, f"{url}/whip/cam", "hello-unchecked")
    assert told == {"hello-unchecked": Outcome.FAILED}


@pytest.mark.parametrize(
    ("closes", "answers", "ends"),
    [
        (True, True, Outcome.PASSED),
        (False, True, Outcome.FAILED),
        (True, False, Outcome.FAILED),
    ],
)
async def test_a_tcp_candidate(
    closes: bool, answers: bool, ends: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offering_ice, "TCP_WAIT", 0.5 if ends is Outcome.FAILED else 10.0)
    pwd = ""
    done = asyncio.Event()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while size := int.from_bytes(await reader.readexactly(2), "big"):
                message = stun.parse(await reader.readexactly(size))
                if answers:
                    reply = stun.success(message, ("127.0.0.1", 9), pwd.encode())
                    writer.write(len(reply).to_bytes(2, "big") + reply)
            if not closes:
                await done.wait()
        writer.close()

    tcp = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    port = tcp.sockets[0].getsockname()[1]

    def with_tcp(answer: str) -> str:
        nonlocal pwd
        pwd = answer.split("a=ice-pwd:")[1].split("\r\n")[0]
        return f"{answer}a=candidate:9 1 tcp 1 127.0.0.1 {port} typ host tcptype passive\r\n"

    try:
        async with spoilt(rewriting(with_tcp)) as url:
            told = await outcomes(Side.WHIP, f"{url}/whip/cam", "ice-tcp")
    finally:
        done.set()
        tcp.close()
        await tcp.wait_closed()
    assert told == {"ice-tcp": ends}
