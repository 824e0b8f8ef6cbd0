"""Our orchestrator in front of runners that are not ours: the network's own, as recorded and
read, and pytrickle's, which answers some things in its own way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from relay.errors import PeerRefused
from relay.protocols.trickle.client import open_session
from relay.protocols.trickle.publisher import TricklePublisher, send_whole
from relay.protocols.trickle.subscriber import TrickleSubscriber
from tests.network import eventually
from tests.orchestrator.doubles import Desk, desk
from tests.rpc.captured import captured, captured_body
from tests.rpc.peers import http_peer

ALL_FIELDS = set(json.loads(captured_body("live-job/runner-start.request.bin")))


class Foreign:
    """A runner with a stream at a time.

    Attributes:
        starts: bodies that it took.
        tokens: what came as Authorization.
        busy: a stream is active.
    """

    def __init__(self, *, pytrickle: bool) -> None:
        self.pytrickle = pytrickle
        self.starts: list[dict[str, Any]] = []
        self.tokens: set[str] = set()
        self.busy = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        async with http_peer(
            {
                "GET /health": self.health,
                "GET /version": self.version,
                "GET /hardware/info": self.hardware,
                "POST /live-video-to-video": self.start,
            }
        ) as url:
            yield url

    async def health(self, request: web.Request) -> web.StreamResponse:
        self.tokens.add(request.headers.get("Authorization", ""))
        status = "OK" if self.busy else "IDLE"
        return web.json_response({"status": status, "error_message": None})

    async def version(self, request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=captured_body("live-job/runner-version.response.bin"),
            content_type="application/json",
        )

    async def hardware(self, request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=captured_body("live-job/runner-hardware-info.response.bin"),
            content_type="application/json",
        )

    async def start(self, request: web.Request) -> web.StreamResponse:
        self.tokens.add(request.headers.get("Authorization", ""))
        body = await request.json()
        if self.pytrickle:
            if self.busy:
                return web.json_response({"status": "error", "message": "busy"}, status=503)
            if not body.get("gateway_request_id"):
                return web.json_response({"status": "error", "message": "no id"}, status=400)
        self.busy = True
        self.starts.append(body)
        if self.pytrickle:
            return web.json_response(
                {"status": "success", "message": "Stream started", "request_id": "x"}
            )
        urls = {"publish_url": "", "subscribe_url": "", "control_url": "", "events_url": ""}
        return web.json_response(urls)


@asynccontextmanager
async def sold_by_file(
    folder: Path, foreign: Foreign, **fields: Any
) -> AsyncIterator[tuple[Desk, Foreign]]:
    """The network's models file, as a stock operator has it."""
    async with foreign.running() as url:
        entry = {
            "pipeline": "live-video-to-video",
            "model_id": "ident",
            "url": url,
            "token": "secret",
            "warm": True,
            "price_per_unit": 0,
            "optimization_flags": {},
            **fields,
        }
        path = folder / "aiModels.json"
        path.write_text(json.dumps([entry]))
        async with desk(folder, [], models_file=path) as one:
            await one.until_up()
            yield one, foreign


@pytest.mark.parametrize("pytrickle", [False, True], ids=["ai-runner", "pytrickle"])
async def test_a_foreign_runner_gets_its_job_and_its_token(tmp_path: Path, pytrickle: bool) -> None:
    async with sold_by_file(tmp_path, Foreign(pytrickle=pytrickle)) as (one, runner):
        # The network's SDK sends no request id; pytrickle takes no job without one.
        job = await one.start(params={"prompt": "x"})
        (start,) = runner.starts
        assert set(start) == ALL_FIELDS | {"params"}
        assert start["params"] == {"prompt": "x"}
        assert start["gateway_request_id"]
        assert start["subscribe_url"] == job.publish_url
        assert start["publish_url"] == job.subscribe_url
        assert runner.tokens == {"Bearer secret"}
        assert job.manifest_id not in start["gateway_request_id"]


async def test_its_version_and_hardware_are_told_on(tmp_path: Path) -> None:
    async with sold_by_file(tmp_path, Foreign(pytrickle=False)) as (one, _):

        async def told() -> bool:
            info = await one.ask("ident")
            assert info.capabilities is not None
            return info.capabilities.models()["ident"].runner_version == "0.9.1"

        await eventually(told)
        (hardware,) = (await one.ask()).hardware
        assert (hardware.pipeline, hardware.model_id) == ("live-video-to-video", "ident")


async def test_capacity_is_that_of_the_file(tmp_path: Path) -> None:
    async with sold_by_file(tmp_path, Foreign(pytrickle=False), capacity=2) as (one, runner):
        await one.start()
        await one.start()
        with pytest.raises(PeerRefused, match="insufficient capacity"):
            await one.start()
        assert len(runner.starts) == 2


async def test_a_busy_pytrickle_is_no_capacity_and_free_again_later(tmp_path: Path) -> None:
    async with sold_by_file(tmp_path, Foreign(pytrickle=True), capacity=2) as (one, runner):
        await one.start()
        with pytest.raises(PeerRefused) as caught:
            await one.start()
        assert caught.value.code == "orchestrator_capped"
        runner.busy = False
        await one.start()
        assert len(runner.starts) == 2


async def test_its_trickle_clients_are_served_and_its_silence_at_the_end_is_no_matter(
    tmp_path: Path,
) -> None:
    """pytrickle never deletes its output: the job ends with its input."""
    async with (
        sold_by_file(tmp_path, Foreign(pytrickle=True)) as (one, runner),
        open_session() as session,
    ):
        job = await one.start()
        (start,) = runner.starts
        await one.session.post(f"{job.publish_url}/0", data=b"in")
        # Its readers begin at the current segment, its writers at 0, over `Connection: close`.
        close = {"Connection": "close", "Content-Type": "video/mp2t"}
        async with one.session.get(f"{start['subscribe_url']}/-2", headers=close) as response:
            assert await response.read() == b"in"
            assert response.headers["Lp-Trickle-Seq"] == "0"
        url = f"{start['publish_url']}/0"
        async with one.session.post(url, data=b"out", headers=close) as response:
            assert response.status == 200
        out = TrickleSubscriber(session, job.subscribe_url, start=0)
        assert await (await anext(aiter(out))).read(100) == b"out"
        events = TricklePublisher(session, start["events_url"], mime="application/json")
        await send_whole(events, captured("live-job/event-status.json"))
        async with one.session.get(f"{job.events_url}/0") as response:
            assert response.content_type == "application/json"
            assert (await response.json())["event"]["type"] == "status"
        waiting = asyncio.create_task(anext(aiter(out), None))
        assert await one.delete(job.publish_url) == 200
        assert await asyncio.wait_for(waiting, 5) is None
        async with one.session.get(f"{start['control_url']}/-2") as response:
            assert response.status == 404
        await one.until(lambda status: status["jobs"] == [])
        await events.close()
        await out.close()
