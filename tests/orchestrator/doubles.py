"""A runner that speaks the runner API, and an orchestrator in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from relay.config import Orchestrator, Runner
from relay.orchestrator.node import OrchestratorNode
from relay.rpc.auth_token import AuthToken
from relay.rpc.client import get_orchestrator
from relay.rpc.live_job import LiveJobAnswer, LiveJobRequest, start_live_job
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.orchestrator_request import OrchestratorRequest
from relay.rpc.runner import RunnerHealth, RunnerStart, RunnerStatus, Slots
from relay.rpc.schema import RunnerSchema
from tests.network import eventually

MODEL = "ident"
Response = Callable[[], Awaitable[web.Response]]


class RunnerDouble:
    """
    Attributes:
        starts: every job that it took.
        status: what it says of its health.
        slots: how many it says it has; None says nothing of slots. Jobs in ``starts``
            count as taken until ``finish`` is called.
        fail_looks: so many of the next looks at its health fail.
        refuse: answers a start in the place of taking the job.
        broken: models that it could not load, and why.
        silent: models that it tells no schema of yet.
    """

    def __init__(self, slots: int | None = None, *, token: str | None = None) -> None:
        self.slots = slots
        self.token = token
        self.status = RunnerStatus.IDLE
        self.starts: list[RunnerStart] = []
        self.busy = 0
        self.looks = 0
        self.fail_looks = 0
        self.refuse: Response | None = None
        self.broken: dict[str, str] = {}
        self.silent: set[str] = set()
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[RunnerDouble]:
        await self.open()
        try:
            yield self
        finally:
            await self.close()

    async def open(self) -> None:
        """Listen; after ``close``, on the same port again."""
        app = web.Application(middlewares=[self._gate])
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/version", self._version),
                web.get("/hardware/info", self._hardware),
                web.get("/schema", self._schema),
                web.post("/live-video-to-video", self._start),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def close(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def finish(self) -> None:
        self.busy -= 1

    @web.middleware
    async def _gate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        open_to_all = request.path == "/health"
        given = request.headers.get("Authorization")
        if self.token and not open_to_all and given != f"Bearer {self.token}":
            return _json({"detail": {"msg": "who are you"}}, status=401)
        response: web.StreamResponse = await handler(request)
        return response

    async def _health(self, request: web.Request) -> web.Response:
        self.looks += 1
        if self.fail_looks:
            self.fail_looks -= 1
            return _json({}, status=500)
        slots = Slots(self.slots, self.slots - self.busy) if self.slots is not None else None
        return _json(RunnerHealth(self.status, slots, tuple(self.broken)).serialise())

    async def _version(self, request: web.Request) -> web.Response:
        return _json({"pipeline": "live-video-to-video", "model_id": "", "version": "0.9.1"})

    async def _hardware(self, request: web.Request) -> web.Response:
        return _json({"pipeline": "live-video-to-video", "model_id": MODEL, "gpu_info": {}})

    async def _schema(self, request: web.Request) -> web.Response:
        model = request.query["model_id"]
        if model in self.broken:
            return _json({"detail": {"msg": self.broken[model]}}, status=500)
        if model in self.silent:
            return _json({"detail": {"msg": f"model {model!r} is being loaded"}}, status=503)
        schema = RunnerSchema(model, "3", {"type": "object"})
        return _json(schema.serialise())

    async def _start(self, request: web.Request) -> web.Response:
        if self.refuse is not None:
            return await self.refuse()
        self.starts.append(RunnerStart.parse(await request.read()))
        self.busy += 1
        return _json({})


def _json(value: Any, *, status: int = 200) -> web.Response:
    if isinstance(value, bytes):
        return web.Response(body=value, status=status, content_type="application/json")
    return web.json_response(value, status=status)


def refusing(status: int, message: str) -> Response:
    async def answer() -> web.Response:
        return _json({"detail": {"msg": message}}, status=status)

    return answer


def hanging() -> Response:
    async def answer() -> web.Response:
        await asyncio.sleep(30)
        return _json({})

    return answer


class Desk:
    """An orchestrator, and the calls of a gateway to it."""

    def __init__(self, node: OrchestratorNode, session: aiohttp.ClientSession) -> None:
        self.node = node
        self.session = session

    @property
    def url(self) -> str:
        return self.node.service_url

    async def ask(self, *models: str, ignore: bool = False) -> OrchestratorInfo:
        request = OrchestratorRequest.for_live(*models) if models else OrchestratorRequest()
        if ignore:
            request = OrchestratorRequest(
                capabilities=request.capabilities, ignore_capacity_check=True
            )
        return await get_orchestrator(self.url, request, timeout=5)

    async def token(self) -> AuthToken:
        info = await self.ask(MODEL, ignore=True)
        assert info.auth_token is not None
        return info.auth_token

    async def start(self, model: str = MODEL, **fields: Any) -> LiveJobAnswer:
        return await start_live_job(
            self.session,
            self.url,
            LiveJobRequest(model, **fields),
            auth_token=await self.token(),
        )

    async def status(self) -> dict[str, Any]:
        async with self.session.get(f"{self.url}/relay/status", ssl=False) as response:
            value: dict[str, Any] = await response.json()
            return value

    async def ended(self) -> dict[str, int]:
        found: dict[str, int] = (await self.status())["ended"]
        return found

    async def delete(self, url: str) -> int:
        async with self.session.delete(url, ssl=False) as response:
            return response.status

    async def exists(self, url: str) -> bool:
        async with self.session.get(f"{url}/next", ssl=False) as response:
            return response.status == 200

    async def channels_of(self, job: LiveJobAnswer) -> list[bool]:
        """Which of input, output, control and events are still there."""
        urls = (job.publish_url, job.subscribe_url, job.control_url, job.events_url)
        return [await self.exists(url) for url in urls]

    async def until(self, check: Callable[[dict[str, Any]], object], seconds: float = 5) -> None:
        """Until the status is as ``check`` wants it; AssertionError when it never is."""

        async def look() -> bool:
            return bool(check(await self.status()))

        await eventually(look, seconds, every=0.01)

    async def until_up(self) -> None:
        await self.until(lambda status: all(r["state"] == "up" for r in status["runners"]))


GONE = [False] * 4
ALL = [True] * 4


def sold(*runners: RunnerDouble, capacity: int = 1, **fields: Any) -> list[Runner]:
    return [
        Runner(model_id=MODEL, url=runner.url, capacity=capacity, **fields) for runner in runners
    ]


@asynccontextmanager
async def desk(
    folder: Path,
    models: list[Runner],
    *,
    tls: bool = False,
    wait: bool = True,
    **settings: Any,
) -> AsyncIterator[Desk]:
    """An orchestrator on a free port, that looks at its runners twenty times a second."""
    defaults: Mapping[str, Any] = {
        "port": 0,
        "data_dir": folder,
        "health_interval": 0.05,
        "service_url": None if tls else "http://127.0.0.1:0",
    }
    node = OrchestratorNode(Orchestrator(models=models, **{**defaults, **settings}))
    await node.start()
    try:
        async with aiohttp.ClientSession() as session:
            one = Desk(node, session)
            if wait and models:
                await one.until_up()
            yield one
    finally:
        await node.stop()
