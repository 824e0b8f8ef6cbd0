"""A process that serves viewers is killed: its viewers are told, come back, and nobody else
notices."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

from relay.config import WebRtc
from tests.gateway.desk import FRAME, NAME, gateway
from tests.gateway.seller import Seller
from tests.network import eventually
from tests.protocols.webrtc.processes.hall import running

TWO = WebRtc(host="127.0.0.1", port=0, egress_processes=1)


async def test_viewers_of_a_lost_process_are_told_and_come_back() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller, webrtc=TWO) as desk,
        desk.filming(),
        desk.watching() as here,
    ):
        egress = desk.node._egress
        await desk.live_at(seller)
        egress.start(1)
        await eventually(lambda: len(egress._ready()) == 1, every=0.01)
        egress._choose = lambda places: len(places) - 1  # the next one goes there
        async with desk.watching() as there:
            await there.sees(10)
            assert there.client is not None
            resource = str(there.client._link.resource.location)
            secret = resource.rpartition("/")[2]
            _, told = await desk.get(f"streams/{NAME}/viewers")
            assert [viewer["process"] for viewer in told["viewers"]] == [0, 1]
            status, told = await desk.get(f"viewers/{secret}")
            assert (status, told["process"]) == (200, 1)
            assert told["packets"] > 0
            assert desk.stream.viewers == 2
            _, told = await desk.get("processes")
            assert [(p["number"], p["viewers"]) for p in told["processes"]] == [(0, 1), (1, 1)]

            [far] = egress._processes[1].sessions.values()
            await eventually(lambda: far.farewell[1], every=0.01)
            ended = asyncio.create_task(there.client.wait_closed())
            killed = time.monotonic()
            running(egress._processes[1]).kill()
            await eventually(lambda: desk.stream.viewers == 1, every=0.01)
            status, told = await desk.get(f"viewers/{secret}")
            assert (status, told["code"]) == (410, "session_ended")
            assert "a new offer is answered by another" in told["detail"]
            await asyncio.sleep(0.6)  # the gateway has let go of it
            status, told = await desk.get(f"viewers/{secret}")
            assert (status, told["code"]) == (410, "session_ended")
            status, told = await desk.get(resource)  # 404 by RFC 9725, and why
            assert (status, told["code"]) == (404, "session_ended")
            assert "the process that served it was lost" in told["detail"]
            assert await asyncio.wait_for(ended, 2) == "closed by the peer"  # no silence told it
            await eventually(lambda: len(egress._ready()) == 1, every=0.01)
            async with desk.watching() as again:
                await again.sees(10)
                _, told = await desk.get("processes")
                [_, back] = told["processes"]
                assert (back["viewers"], back["restarts"]) == (1, 1)
            await here.sees(10, after=killed)
            numbers = [unit.pts for arrived, unit in here.video if arrived > killed]
            assert {b - a for a, b in pairwise(numbers)} == {FRAME}, "each picture came, and once"
            assert desk.history[-1][0].value == "live"


async def test_a_gateway_that_goes_tells_viewers_everywhere() -> None:
    async with gateway(webrtc=TWO) as desk:
        egress = desk.node._egress
        egress.start(1)
        await eventually(lambda: len(egress._ready()) == 1, every=0.01)
        egress._choose = lambda places: len(places) - 1
        async with desk.watching() as there:
            process = egress._processes[1]
            assert process.viewers == 1
            assert there.client is not None
            closed = asyncio.create_task(there.client.wait_closed())
            await desk.node.stop()
            assert await closed == "closed by the peer"
            assert not egress._processes
