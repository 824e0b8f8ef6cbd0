"""Every case can fail: servers that are wrong in one way, and servers that are no such thing."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from relay.api.app import build_app
from relay.config import Gateway
from relay.conformance import suites
from relay.conformance.case import Outcome
from relay.conformance.endpoint import Side
from relay.gateway.node import GatewayNode
from relay.protocols.trickle import answers, channel, server
from relay.protocols.trickle.channel import Channel, Limits
from relay.protocols.trickle.segment import Segment
from relay.protocols.trickle.server import TrickleServer
from tests.live import LOOPBACK

Change = Callable[[web.Request, web.StreamResponse], None]


@contextlib.asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    runner_ = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner_.setup()
    site = web.TCPSite(runner_, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner_.addresses[0][1]}"
    finally:
        await runner_.cleanup()


def changing(app: web.Application, change: Change) -> None:
    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        change(request, response)

    app.on_response_prepare.append(prepare)


async def failing_trickle(url: str, *, only: tuple[str, ...] = (), abuse: bool = False) -> set[str]:
    cases = suites.chosen(suites.TRICKLE, slow=False, abuse=abuse, only=only)
    told = [r async for r in await suites.trickle(f"{url}/t/", (), cases)]
    return {r.name for r in told if r.outcome is Outcome.FAILED}


async def wrong_trickle(change: Change, only: tuple[str, ...]) -> set[str]:
    app = web.Application()
    TrickleServer(base_path="/t/", autocreate=True).attach(app)
    changing(app, change)
    async with served(app) as url:
        return await failing_trickle(url, only=only)


def without(name: str) -> Change:
    def change(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.pop(name, None)

    return change


def other_status(old: int, new: int) -> Change:
    def change(_: web.Request, response: web.StreamResponse) -> None:
        if response.status == old:
            response._set_status(new, None)  # at this point the public one refuses

    return change


def packed(request: web.Request, response: web.StreamResponse) -> None:
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        response.headers["Content-Encoding"] = "gzip"


def other_type(_: web.Request, response: web.StreamResponse) -> None:
    if "Content-Type" in response.headers:
        response.headers["Content-Type"] = "video/mp4"


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (without(answers.SEQ), ("post-tells-its-number", "get-tells-its-number", "gone-ahead")),
        (without(answers.LATEST), ("next-tells-latest", "gone-behind", "latest-of-an-old-one")),
        (without(answers.CLOSED), ("close-ends-waiting-readers", "close-answers-preconnects")),
        (other_status(470, 404), ("gone-ahead", "gone-behind", "drop-to-latest")),
        (other_status(404, 200), ("no-channel-get", "close")),
        (other_status(400, 404), ("get-no-number", "close-twice", "no-channel-delete")),
        (packed, ("no-compression",)),
        (other_type, ("content-type-of-creation", "create-again", "name-again")),
        (without("Allow"), ("options",)),
    ],
)
async def test_a_wrong_answer_fails(change: Change, names: tuple[str, ...]) -> None:
    assert await wrong_trickle(change, names) == set(names)


def hurry(patch: pytest.MonkeyPatch) -> None:
    """What does not come is waited for less, and less is enough."""
    patch.setattr("relay.conformance.wire.WAIT", 0.5)
    for name, value in (("PATIENCE", 0.5), ("SEGMENT", 8 << 20), ("CHANNELS", 50), ("READERS", 20)):
        patch.setattr(f"relay.conformance.trickle_abuse.{name}", value)


def _late(patch: pytest.MonkeyPatch) -> None:
    def silently(self: Segment, data: bytes) -> None:
        self._pages.append(data)
        self.size += len(data)

    patch.setattr(Segment, "append", silently)
    patch.setattr(Segment, "decided", property(lambda segment: segment.closed))


def _few(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(channel, "SLOTS", 3)


def _deaf_to_reset(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(answers, "RESET", "X-Other")


def _forward_only(patch: pytest.MonkeyPatch) -> None:
    def advance(self: Channel, sequence: int) -> None:
        self.next_write = max(self.next_write, sequence + 1)

    patch.setattr(Channel, "_advance", advance)


def _eager(patch: pytest.MonkeyPatch) -> None:
    write = Channel.write

    def counting(self: Channel, sequence: int, *, reset: bool = False) -> Any:
        writer = write(self, sequence, reset=reset)
        self.next_write = writer.segment.sequence + 1
        return writer

    patch.setattr(Channel, "write", counting)


def _waits_for_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Channel, "_may_await", lambda self, sequence: False)


def _negative(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(server, "parse_sequence", lambda text: max(int(text), -2))


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (_late, ("first-byte-before-the-end", "each-chunk-at-once", "late-reader")),
        (_few, ("five-are-kept",)),
        (_deaf_to_reset, ("reset-ends-older-ones", "reset-answers-a-preconnect")),
        (_forward_only, ("post-behind",)),
        (_eager, ("preconnect-does-not-count", "vanished-preconnect")),
        (_waits_for_nobody, ("get-latest", "get-next-waits", "get-one-of-none")),
        (_negative, ("negative-get",)),
    ],
)
async def test_a_wrong_rule_fails(
    spoil: Callable[[pytest.MonkeyPatch], None],
    names: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hurry(monkeypatch)
    spoil(monkeypatch)
    app = web.Application()
    TrickleServer(base_path="/t/", autocreate=True).attach(app)
    async with served(app) as url:
        assert await failing_trickle(url, only=names, abuse=True) == set(names)


async def test_no_bounds_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    app = web.Application()
    limits = Limits(segment_bytes=1 << 40, channel_bytes=1 << 40, channels=10**6)
    TrickleServer(base_path="/t/", autocreate=True, limits=limits).attach(app)
    async with served(app) as url:
        names = ("endless-segment", "many-channels")
        assert await failing_trickle(url, only=names, abuse=True) == set(names)


def blunt(status: int, *, hasty: bool = False) -> web.Application:
    """Answers all with one status, hasty: before the body has come; but makes channels."""

    async def handle(request: web.Request) -> web.Response:
        if not hasty:
            await request.read()
        made = request.method == "POST" and "Expect-Content" in request.headers
        return web.Response(status=200 if made else status)

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{rest:.*}", handle)
    return app


async def test_every_trickle_case_fails_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    left = {case.name for case in suites.TRICKLE if not case.slow}
    for status in (500, 200, 404):
        async with served(blunt(status, hasty=status == 404)) as url:
            left -= await failing_trickle(url, only=tuple(left), abuse=True)
    assert left == set()


async def failing_offers(url: str, *, only: tuple[str, ...] = (), abuse: bool = False) -> set[str]:
    cases = suites.chosen(suites.OFFERING, slow=False, abuse=abuse, only=only)
    told = [r async for r in await suites.offering(Side.WHIP, url, "token", cases)]
    return {r.name for r in told if r.outcome is Outcome.FAILED}


def weak(_: web.Request, response: web.StreamResponse) -> None:
    if "ETag" in response.headers:
        response.headers["ETag"] = f"W/{response.headers['ETag']}"


def tagged(_: web.Request, response: web.StreamResponse) -> None:
    if response.status == 204:
        response.headers["ETag"] = '"x"'


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (weak, ("etag", "trickle", "list-if-match", "restart")),
        (tagged, ("trickle",)),
        (without("Location"), ("post", "location", "location-is-whole")),
        (without("Accept-Post"), ("options",)),
        (without("Access-Control-Expose-Headers"), ("exposed",)),
        (without("Access-Control-Allow-Origin"), ("preflight", "refusals-are-readable")),
        (other_status(428, 204), ("no-if-match", "restart-if-match")),
        (other_status(412, 204), ("wrong-if-match", "weak-if-match", "after-a-restart")),
        (other_status(415, 201), ("other-type", "no-type", "patch-type")),
        (other_status(422, 201), ("wrong-direction", "inactive", "no-common-codec")),
        (other_status(400, 500), ("empty-body", "random-body", "no-ufrag", "no-fingerprint")),
        (other_status(405, 200), ("other-methods",)),
        (other_status(404, 200), ("guessed-session", "delete", "patch-of-no-session")),
    ],
)
async def test_a_wrong_endpoint_fails(change: Change, names: tuple[str, ...]) -> None:
    node = GatewayNode(Gateway(webrtc=LOOPBACK, orchestrators=[]))
    await node.start()
    app = build_app(node)
    changing(app, change)
    try:
        async with served(app) as url:
            assert await failing_offers(f"{url}/whip/cam", only=names) == set(names)
    finally:
        await node.stop()


async def test_every_offering_case_fails_somewhere() -> None:
    left = {case.name for case in suites.OFFERING if not case.slow}
    for status in (500, 200):
        async with served(blunt(status)) as url:
            left -= await failing_offers(f"{url}/whip/cam", only=tuple(left), abuse=True)
    # These ask of what such a server does not have.
    assert left == {"no-redirect-by-301", "ice-servers", "play", "one-of-many"}
