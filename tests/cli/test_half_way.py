"""``relay watch`` while viewers are answered and not yet connected: who may come in by another
offer makes one, and who may not ends at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from relay.cli import persistence, watch
from relay.cli.persistence import put_off
from relay.cli.watch import Request
from relay.config import WebRtc
from relay.errors import PeerError, PeerRefused, PeerTimeout
from relay.protocols.webrtc.resource import Resource
from tests.gateway.desk import gateway
from tests.gateway.seller import Seller
from tests.network import eventually
from tests.protocols.webrtc.processes.hall import running

TWO = WebRtc(host="127.0.0.1", port=0, egress_processes=1)


class Halt:
    """Viewers have their answers, and do nothing with them before they ``go``."""

    def __init__(self) -> None:
        self.answered = 0
        self.go = asyncio.Event()


@contextmanager
def half_way() -> Iterator[Halt]:
    halt, post = Halt(), Resource.post

    async def held(resource: Resource, offer: str) -> str:
        answer = await post(resource, offer)
        halt.answered += 1
        await halt.go.wait()
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Resource, "post", held)
        yield halt


async def test_those_whose_process_is_lost_make_another_offer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with Seller().running() as seller, gateway(seller, webrtc=TWO) as desk, desk.filming():
        egress = desk.node._egress
        await desk.live_at(seller)
        egress.start(1)
        await eventually(lambda: len(egress._ready()) == 1, every=0.01)
        egress._choose = lambda places: len(places) - 1
        with half_way() as halt:
            watching = asyncio.create_task(
                watch._watch(Request(desk.whep, viewers=12, seconds=3, as_json=False))
            )
            await eventually(lambda: halt.answered == 12, every=0.01)
            process = egress._processes[1]
            assert process.viewers == 12
            running(process).kill()
            await eventually(lambda: process._gone.is_set(), every=0.01)
            halt.go.set()
            told = await asyncio.wait_for(watching, 30)
        assert halt.answered == 24
    assert (told.joined, len(told.first), told.ended, told.returned) == (12, 12, 0, 0)
    assert told.why == ""
    assert told.connected[0] > persistence.WAITS[0], "the time is that since its first offer"
    said = capsys.readouterr().err
    assert "12 of 12 could not join yet: not connected: the process that served it was lost" in said


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (PeerError("not connected: the process that served it was lost (it ended)"), True),
        (PeerError("not connected: the gateway is going away"), True),
        (PeerError("not connected: the other end does not know it any more"), True),
        (PeerError("not connected: the stream was stopped"), False),
        (PeerRefused("503: full"), True),
        (PeerRefused("403: not for you"), False),
        (PeerError("http://127.0.0.1:9/whep/cam: Connect call failed"), False),
        (PeerTimeout("http://127.0.0.1:9/whep/cam did not answer in time"), False),
        (PeerTimeout("not connected in time: nothing answered"), False),
        (OSError("no port left"), False),
    ],
)
def test_a_first_offer_is_followed_by_another_only_where_a_gateway_put_it_off(
    error: Exception, again: bool
) -> None:
    assert put_off(error) is again


@pytest.mark.parametrize(("status", "again"), [(503, True), (401, False), (410, False)])
async def test_refusals_that_last_are_given_up(
    monkeypatch: pytest.MonkeyPatch, status: int, again: bool
) -> None:
    monkeypatch.setattr(persistence, "WAITS", (0.05,))
    monkeypatch.setattr(persistence, "TRIED_FOR", 0.5)
    offers = list[float]()

    async def refuse(request: web.Request) -> web.Response:
        offers.append(time.monotonic())
        return web.Response(status=status, reason="not now")

    app = web.Application()
    app.router.add_post("/whep/cam", refuse)
    async with TestServer(app) as server:
        url = str(server.make_url("/whep/cam"))
        with pytest.raises(PeerError, match=f"nobody could join: {status}: not now"):
            await asyncio.wait_for(watch._watch(Request(url, seconds=600, as_json=True)), 20)
    assert (len(offers) > 3) is again
    assert again or len(offers) == 1
    assert offers[-1] - offers[0] < 2
