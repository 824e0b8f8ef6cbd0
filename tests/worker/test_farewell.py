"""What is left of a lost job says why, and goes, also where a token is asked for."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from relay.protocols.trickle.client import open_session
from relay.protocols.trickle.passes import Access, Pass
from relay.protocols.trickle.server import TrickleServer
from relay.protocols.trickle.subscriber import TrickleSubscriber
from relay.rpc.events import MAX_EVENT, Event
from relay.rpc.reach import ANYWHERE
from relay.rpc.runner import RunnerStart
from relay.rpc.trickle_token import token_header
from relay.rpc.trust import Trust
from relay.worker.farewell import farewell


@pytest.mark.parametrize("tokens", [False, True])
async def test_a_lost_jobs_channels_end_with_an_error(tokens: bool) -> None:
    server, runner_side, gateway_side = TrickleServer(tokens=tokens), Pass(), Pass()
    app = web.Application()
    server.attach(app)
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    for name in ("out", "events"):
        server.create(name, "application/json")
        server.let(name, runner_side, Access.WRITE)
        server.let(name, gateway_side, Access.READ)
    base = f"http://127.0.0.1:{runner.addresses[0][1]}{server.base_path}"
    start = RunnerStart(
        f"{base}in",
        f"{base}out",
        events_url=f"{base}events",
        model_id="m",
        trickle_token=runner_side.token if tokens else "",
    )
    headers = token_header(gateway_side.token)
    async with open_session() as session:
        events = TrickleSubscriber(session, start.events_url, start=0, headers=headers)
        reading = asyncio.create_task(anext(events))
        await farewell(session, start, "it was lost", Trust().job(ANYWHERE))
        event = Event.parse(await (await reading).read(MAX_EVENT))
        assert "it was lost" in str(event)
        await events.close()
    assert not server.exists("out")
    assert not server.exists("events")
    await runner.cleanup()
