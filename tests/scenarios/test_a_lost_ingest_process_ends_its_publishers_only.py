"""A process that receives publishers is killed: they are told and come back under their names, and
viewers stay where they are."""

from __future__ import annotations

import asyncio
import time

from relay.config import WebRtc
from relay.gateway.status import StreamState
from tests.gateway.desk import gateway
from tests.gateway.seller import Seller
from tests.network import eventually
from tests.protocols.webrtc.processes.hall import running

APART = WebRtc(host="127.0.0.1", port=0, ingest_processes=1)


async def test_its_publisher_is_told_and_comes_back_and_its_viewers_stay() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller, webrtc=APART) as desk,
        desk.watching() as viewer,
    ):
        ingest = desk.node._ingest
        await eventually(lambda: ingest._ready(), every=0.01)
        async with desk.filming(audio=True) as camera:
            await desk.live_at(seller)
            await viewer.sees(10)
            _, told = await desk.get("processes")
            found = [(p["kind"], p["viewers"], p["publishers"]) for p in told["processes"]]
            assert found == [("gateway", 1, 0), ("ingest", 0, 1)]
            seen = desk.stream.input
            assert seen is not None
            assert (seen.connected, seen.has_audio, seen.process) == (True, True, 1)
            await eventually(lambda: (desk.stream.input or seen).packets > 0)

            [far] = ingest._processes[1].sessions.values()
            await eventually(lambda: far.farewell[1], every=0.01)
            resource = str(camera.whip._link.resource.location)
            closed = asyncio.create_task(camera.whip.wait_closed())
            running(ingest._processes[1]).kill()
            waiting = await desk.reaches(StreamState.WAITING, "publisher_gone")
            assert "the process that served it was lost" in waiting.reason
            assert await asyncio.wait_for(closed, 2) == "closed by the peer"  # no silence told it
            status, told = await desk.get(resource)  # 404 by RFC 9725, and why
            assert (status, told["code"]) == (404, "session_ended")
            assert "the process that served it was lost" in told["detail"]
        await eventually(lambda: ingest._ready(), every=0.01)
        again = time.monotonic()
        async with desk.filming():
            await desk.live_at(seller)
            await viewer.sees(10, after=again)
            _, told = await desk.get("processes")
            [_, back] = told["processes"]
            assert (back["publishers"], back["restarts"]) == (1, 1)
            left = desk.stream.departure
            assert left is not None
            assert "the process that served it was lost" in left.words, "it is told afterwards too"
        assert viewer.client is not None
        assert desk.stream.viewers == 1, "the same connection all the while"


async def test_a_gateway_that_goes_tells_publishers_everywhere() -> None:
    async with gateway(webrtc=APART) as desk:
        ingest = desk.node._ingest
        await eventually(lambda: ingest._ready(), every=0.01)
        async with desk.filming() as camera:
            assert ingest._processes[1].publishers == 1
            closed = asyncio.create_task(camera.whip.wait_closed())
            await desk.node.stop()
            assert await closed == "closed by the peer"
            assert not ingest._processes
