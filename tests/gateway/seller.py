"""An orchestrator on the wire whose worker behaves as a test wants it to.

Front, gRPC and trickle are the real ones; only the faults are made here.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from relay.errors import PeerRefused
from relay.media.mpegts import Demuxer
from relay.media.segmenter import Cut, Segmenter
from relay.media.unit import AccessUnit
from relay.protocols.trickle.client import open_session
from relay.protocols.trickle.publisher import TricklePublisher, send_whole
from relay.protocols.trickle.server import TrickleServer
from relay.protocols.trickle.subscriber import TrickleSubscriber
from relay.protocols.trickle.upload import SegmentWriter
from relay.rpc.auth_token import AuthToken
from relay.rpc.capabilities import Capabilities, ModelConstraint
from relay.rpc.client import GET_ORCHESTRATOR
from relay.rpc.events import StatusEvent
from relay.rpc.front import Front
from relay.rpc.live_job import PATH, LiveJobAnswer, LiveJobRequest
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.orchestrator_request import NO_ADDRESS, OrchestratorRequest
from relay.rpc.price_info import PriceInfo
from relay.rpc.schema import ORCHESTRATOR_PATH, RunnerSchema
from relay.rpc.seg_data import SegData
from relay.rpc.ticket_params import TicketParams

MODEL = "ident"
CHANNELS = ("in", "out", "control", "events")


class Job:
    """One job at a seller: its four channels, from the worker's side."""

    def __init__(self, seller: Seller, number: int, request: LiveJobRequest) -> None:
        self.seller = seller
        self.number = number
        self.request = request
        self.controls: list[bytes] = []
        self.units: list[AccessUnit] = []
        self.over = asyncio.Event()
        http, url, verify = seller.http, self.url, seller.tls is None
        self.input = TrickleSubscriber(http, url("in"), start=0, ssl=verify)
        self.output = TricklePublisher(http, url("out"), ssl=verify)
        self.events = TricklePublisher(http, url("events"), mime="application/json", ssl=verify)
        self._control = TrickleSubscriber(
            http, url("control"), start=0, keep_newest=True, ssl=verify
        )
        self._demuxer = Demuxer()
        self._segmenter = Segmenter(audio=True, min_duration=0.1)
        self._writer: SegmentWriter | None = None

    def name(self, channel: str) -> str:
        return f"job{self.number}-{channel}"

    def url(self, channel: str) -> str:
        return f"{self.seller.url}{self.seller.trickle.base_path}{self.name(channel)}"

    def answer(self) -> LiveJobAnswer:
        return LiveJobAnswer(
            publish_url=self.url("in") if not self.seller.deaf else f"{self.seller.url}/deaf/in",
            subscribe_url=self.url("out"),
            control_url=self.url("control"),
            events_url=self.url("events"),
            manifest_id=f"job{self.number}",
        )

    async def close(self, *channels: str) -> None:
        """Close channels, as the orchestrator does."""
        for channel in channels or CHANNELS:
            await self.seller.trickle.close(self.name(channel))

    async def say(self, body: bytes) -> None:
        await send_whole(self.events, body)

    async def says_status(self, state: str = "ONLINE", **fields: Any) -> None:
        now = int(time.time() * 1000)
        status = StatusEvent(MODEL, state, start_time=now, timestamp=now, **fields)
        await self.say(status.to_event().serialise())

    async def pictures(self) -> AsyncIterator[AccessUnit]:
        """What the gateway sends, until it ends the input."""
        async for segment in self.input:
            async for data in segment:
                for unit in self._demuxer.feed(data, time.monotonic()):
                    self.units.append(unit)
                    yield unit

    def show(self, unit: AccessUnit) -> None:
        """Send one unit of output."""
        for step in self._segmenter.push(unit, time.monotonic()):
            match step:
                case Cut():
                    if self._writer is not None:
                        self._writer.end()
                    self._writer = self.output.begin()
                case bytes(data):
                    assert self._writer is not None
                    self._writer.write(data)

    async def run(self, work: Work) -> None:
        listening = asyncio.create_task(self._listen())
        try:
            await work(self)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await self.output.close()
            await self.events.close()
            await self.input.close()
            await self._control.close()
            self.over.set()

    async def _listen(self) -> None:
        async for segment in self._control:
            self.controls.append(await segment.read(1 << 20))


Work = Callable[[Job], Awaitable[None]]


async def echo(job: Job) -> None:
    """Every picture comes back."""
    async for unit in job.pictures():
        job.show(unit)


async def echo_and_stay(job: Job) -> None:
    """Every picture comes back, and no channel is closed when the input ends."""
    await echo(job)
    await asyncio.Event().wait()


async def silent(job: Job) -> None:
    """Reads everything and sends nothing."""
    async for _ in job.pictures():
        pass


def stops_after(count: int) -> Work:
    async def work(job: Job) -> None:
        async for unit in job.pictures():
            if len(job.units) <= count:
                job.show(unit)

    return work


def changed(change: Callable[[AccessUnit], AccessUnit]) -> Work:
    async def work(job: Job) -> None:
        async for unit in job.pictures():
            job.show(change(unit))

    return work


class Seller:
    """
    Attributes:
        work: what the worker of the next job does.
        refuse: answers a job's POST in the place of taking it.
        full: GetOrchestrator is answered with OrchestratorCapped.
        deaf: the input is accepted and never read.
        token: what a job must bring; ``issued`` is what is given out.
        delay: seconds until GetOrchestrator is answered; ``schema_delay`` is the schema's.
        schema: of the parameters; None answers 404 as stock sellers do.
        hold: a job's POST is answered once it is set.
        price, listed: for all that it does, and by model.
        nodes: more addresses that it names.
        ticket: what it would be paid with.
        tls: what it serves with; None: plain text.
        names: the base of the channels that it tells; by default its own.
        jobs, posts, asked, questions, schema_asked: what came.
    """

    def __init__(self, work: Work = echo, *, models: tuple[str, ...] = (MODEL,)) -> None:
        self.work = work
        self.models = models
        self.refuse: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self.full = False
        self.deaf = False
        self.token = b"token"
        self.issued: bytes | None = b"token"
        self.price: PriceInfo | None = None
        self.listed: tuple[PriceInfo, ...] = ()
        self.nodes: tuple[str, ...] = ()
        self.ticket: TicketParams | None = None
        self.runner_version = ""
        self.tls: ssl.SSLContext | None = None
        self.names = ""
        self.front: Front | None = None
        self.questions: list[OrchestratorRequest] = []
        self.delay = 0.0
        self.schema: dict[str, Any] | None = None
        self.schema_delay = 0.0
        self.broken = ""  # why the asked model could not be loaded
        self.schema_asked = 0
        self.hold: asyncio.Event | None = None
        self.jobs: list[Job] = []
        self.posts: list[dict[str, Any]] = []
        self.asked = 0
        self.url = ""
        self.trickle = TrickleServer()
        self.http: aiohttp.ClientSession
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[Seller]:
        app = web.Application(client_max_size=1 << 20)
        self.trickle.attach(app)
        app.router.add_post(PATH, self._job)
        app.router.add_get(ORCHESTRATOR_PATH, self._schema)
        app.router.add_post("/deaf/{channel}/{sequence}", self._hear_nothing)
        app.router.add_delete("/deaf/{channel}", self._deleted)
        self.front = front = Front(app, {GET_ORCHESTRATOR: self._offer}, self.tls)
        self.http = open_session()
        scheme = "http" if self.tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{await front.start('127.0.0.1', port)}"
        try:
            yield self
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await front.stop(0.1)
            await self.http.close()

    def take(self, request: LiveJobRequest) -> Job:
        """Begin a job."""
        job = Job(self, len(self.jobs), request)
        for channel in CHANNELS:
            self.trickle.create(job.name(channel), "video/MP2T")
        self.trickle.on_closed(job.name("in"), lambda _: self._ended(job))
        self.jobs.append(job)
        self._tasks.append(asyncio.create_task(job.run(self.work)))
        return job

    def cut(self) -> None:
        """End every HTTP connection, as a network does."""
        assert self.front is not None
        server = self.front._runner.server
        assert server is not None
        for connection in server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    def _told(self, job: Job) -> LiveJobAnswer:
        answer = job.answer()
        if not self.names:
            return answer
        publish, subscribe, control, events = (
            url.replace(self.url, self.names) for url in answer.urls
        )
        return LiveJobAnswer(publish, subscribe, control, events, manifest_id="x")

    def _ended(self, job: Job) -> None:
        """The gateway has let go: the other channels go too, as at every orchestrator."""
        self._tasks.append(asyncio.create_task(job.close()))

    async def _offer(self, message: bytes) -> bytes:
        self.asked += 1
        self.questions.append(OrchestratorRequest.parse(message))
        await asyncio.sleep(self.delay)
        if self.full:
            raise PeerRefused("Invalid orchestrator request: OrchestratorCapped")
        told = ModelConstraint(warm=True, runner_version=self.runner_version)
        token = AuthToken(self.issued, "session", 1 << 40) if self.issued is not None else None
        return OrchestratorInfo(
            transcoder=self.url,
            address=NO_ADDRESS,
            capabilities=Capabilities.live(dict.fromkeys(self.models, told)),
            auth_token=token,
            price_info=self.price,
            capabilities_prices=self.listed,
            nodes=self.nodes,
            ticket_params=self.ticket,
        ).serialise()

    async def _job(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.posts.append(orjson.loads(body))
        if self.refuse is not None:
            return await self.refuse(request)
        token = SegData.from_header(request.headers["Livepeer-Segment"]).auth_token
        if token is None or token.token != self.token:
            return web.Response(status=403, text="invalid auth token")
        if self.hold is not None:
            await self.hold.wait()
        job = self.take(LiveJobRequest.parse(body))
        return web.Response(body=self._told(job).serialise(), content_type="application/json")

    async def _schema(self, request: web.Request) -> web.StreamResponse:
        self.schema_asked += 1
        await asyncio.sleep(self.schema_delay)
        if self.broken:
            return web.json_response({"detail": {"msg": self.broken}}, status=500)
        if self.schema is None:
            return web.Response(status=404)
        schema = RunnerSchema(request.query["model_id"], "1", self.schema)
        return web.Response(body=schema.serialise(), content_type="application/json")

    async def _hear_nothing(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    async def _deleted(self, request: web.Request) -> web.StreamResponse:
        return web.Response()


def answering(
    status: int, text: str = "", kind: str = "text/plain"
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type=kind)

    return answer


async def never(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()
