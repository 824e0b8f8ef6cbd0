"""A worker: the runner API in front of a few warm processes. It never touches media."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import aiohttp
from aiohttp import web

from relay.config import Worker
from relay.errors import (
    BadInput,
    ConfigError,
    NotFound,
    RelayError,
    Unauthorized,
    Unavailable,
)
from relay.protocols.trickle.client import open_session
from relay.rpc.capabilities import LIVE_PIPELINE
from relay.rpc.connector import GuardedConnector
from relay.rpc.hardware import Gpu, HardwareInformation
from relay.rpc.json_body import dump
from relay.rpc.runner import (
    ALIVE_PATH,
    HARDWARE_PATH,
    HEALTH_PATH,
    NO_CAPACITY,
    READY_PATH,
    START_PATH,
    VERSION_PATH,
    RunnerHealth,
    RunnerStart,
    RunnerStatus,
    RunnerVersion,
    Slots,
    serialise_hardware,
)
from relay.rpc.schema import RUNNER_PATH as SCHEMA_PATH
from relay.rpc.schema import RunnerSchema
from relay.rpc.strangers import http_log
from relay.rpc.trust import Trust
from relay.worker.farewell import farewell
from relay.worker.hardware import find_gpus
from relay.worker.messages import Caller, Configure
from relay.worker.requests import (
    MAX_BODY,
    Handler,
    answer,
    caller_of,
    json_errors,
    not_loaded,
    start_of,
)
from relay.worker.supervisor import STOP_WITHIN, Slot, SlotState

log = logging.getLogger(__name__)
_http = http_log(__name__)

IDLE: Final = 75.0
"""Seconds that a connection may wait for its next request, or for the end of its head."""
MAX_BEAT: Final = 0.5
PROBES: Final = (HEALTH_PATH, ALIVE_PATH, READY_PATH)
"""What containers are probed by, and no token is asked for."""


class WorkerNode:
    """
    Args:
        settings: of the worker.

    Attributes:
        draining: it takes no new jobs.

    Raises:
        ConfigError: no pipeline, two under one model id, or node_ca cannot be read.
    """

    def __init__(self, settings: Worker) -> None:
        self.settings = settings
        self.draining = False
        configure = Configure(
            pipelines=[each.model_dump(mode="json") for each in settings.pipelines],
            bitrate=settings.bitrate,
            keyframe_interval=settings.keyframe_interval,
            node_tls=settings.node_tls,
            node_ca=str(settings.node_ca) if settings.node_ca else None,
            reach=settings.reach,
            beat=min(MAX_BEAT, settings.watchdog / 6),
        )
        self.slots = [
            Slot(number, configure, settings.watchdog, self._bury, self._note)
            for number in range(settings.slots)
        ]
        self._trust = Trust(settings.node_tls, settings.reach, ca=settings.node_ca)
        self._models = _models_of(settings)
        self._changed = asyncio.Event()
        self._gpus: dict[str, Gpu] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port that is listened on; 0 before ``start``."""
        return self._port

    async def start(self) -> None:
        """Listen, and begin to warm the slots up; ``wait_ready`` tells when one is.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        self._session = open_session(GuardedConnector)
        app = web.Application(client_max_size=MAX_BODY, middlewares=[json_errors, self._gate])
        app.add_routes(
            [
                web.get(HEALTH_PATH, self._on_health),
                web.get(ALIVE_PATH, self._on_alive),
                web.get(READY_PATH, self._on_ready),
                web.get(VERSION_PATH, self._on_version),
                web.get(HARDWARE_PATH, self._on_hardware),
                web.get(SCHEMA_PATH, self._on_schema),
                web.post(START_PATH, self._on_start),
            ]
        )
        # Bodies stay as they came: a small gzip may hide a large one.
        self._runner = web.AppRunner(
            app, access_log=None, auto_decompress=False, keepalive_timeout=IDLE, logger=_http
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.settings.host, self.settings.port)
        try:
            await site.start()
        except OSError as error:
            await self.stop()
            raise ConfigError(f"worker: cannot listen: {error}") from error
        self._port = self._runner.addresses[0][1]
        self._tasks = [asyncio.create_task(slot.run()) for slot in self.slots]
        self._tasks.append(asyncio.create_task(self._look_for_gpus()))
        for task in self._tasks:
            task.add_done_callback(_report)

    async def wait_ready(self) -> None:
        """Return once a slot is warm.

        Raises:
            Unavailable: every slot has failed to start; the message says why.
        """
        await self._until(lambda: self.health().status is not RunnerStatus.LOADING)
        if self.health().status is RunnerStatus.ERROR:
            raise Unavailable(f"the worker does not start: {self.problem()}", code="not_ready")

    async def drain(self, deadline: float) -> None:
        """Take nothing new and let jobs end, until ``deadline`` (monotonic seconds)."""
        self.draining = True
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._until(self._all_free)
        except TimeoutError:
            log.info("the drain's deadline has come; jobs that run are stopped")

    async def stop(self) -> None:
        """Stop what runs, end every child, and let the port go."""
        self.draining = True
        for slot in self.slots:
            slot.stop("the worker stops")
        try:
            async with asyncio.timeout(STOP_WITHIN / 2):
                await self._until(self._all_free)
        except TimeoutError:
            log.warning("a job did not stop in time; its process is ended")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    def health(self) -> RunnerHealth:
        """What an orchestrator is told: OK with a job, IDLE with a slot that could take one."""
        states = [slot.state for slot in self.slots]
        free = 0 if self.draining else states.count(SlotState.READY)
        if SlotState.BUSY in states:
            status = RunnerStatus.OK
        elif all(slot.broken for slot in self.slots):
            status = RunnerStatus.ERROR
        elif SlotState.READY in states:
            status = RunnerStatus.IDLE
        else:
            status = RunnerStatus.LOADING
        broken = tuple(model for model in self._models if "error" in self._model(model))
        return RunnerHealth(status, Slots(len(self.slots), free), broken, self.problem())

    def problem(self) -> str:
        """Why slots, or models in them, do not work; empty when all do."""
        words = [f"slot {slot.number}: {slot.problem}" for slot in self.slots if slot.problem]
        return "; ".join([*words, *self._unloaded()])

    def unloaded(self) -> str:
        """Which models could not be loaded, and why; empty when none."""
        return "; ".join(self._unloaded())

    def _unloaded(self) -> list[str]:
        told = {model: self._model(model).get("error") for model in self._models}
        return [f"{model}: {reason}" for model, reason in told.items() if reason]

    # Requests.

    async def _on_health(self, request: web.Request) -> web.Response:
        health = self.health()
        return answer(
            (health if self._may_read(request) else replace(health, reason="")).serialise()
        )

    async def _on_alive(self, request: web.Request) -> web.Response:
        return answer(dump({"status": "ok"}))

    async def _on_ready(self, request: web.Request) -> web.Response:
        """Whether a slot is warm, busy or not, and jobs are taken at all."""
        if self.draining:
            return answer(dump({"status": "draining"}), 503)
        warm = (SlotState.READY, SlotState.BUSY)
        if not any(slot.state in warm and not slot.broken for slot in self.slots):
            told = {"status": "no slot is warm"}
            if (why := self.problem()) and self._may_read(request):
                told["reason"] = why
            return answer(dump(told), 503)
        return answer(dump({"status": "ready"}))

    async def _on_version(self, request: web.Request) -> web.Response:
        return answer(RunnerVersion(_package_version(), self._asked_model(request)).serialise())

    async def _on_hardware(self, request: web.Request) -> web.Response:
        hardware = HardwareInformation(LIVE_PIPELINE, self._asked_model(request), self._gpus)
        return answer(serialise_hardware(hardware))

    async def _on_schema(self, request: web.Request) -> web.Response:
        model_id = self._asked_model(request)
        if model_id not in self._models:
            raise NotFound(f"there is no model {model_id!r}", code="unknown_model")
        model = self._model(model_id)
        if "error" in model:
            raise RelayError(not_loaded(model_id, model["error"]), code="model_broken")
        if "schema" not in model:
            raise Unavailable(f"model {model_id!r} is being loaded", code="not_loaded")
        return answer(RunnerSchema(model_id, model["version"], model["schema"]).serialise())

    async def _on_start(self, request: web.Request) -> web.Response:
        job = await start_of(request)
        if not job.model_id:
            job = replace(job, model_id=self._models[0])
        if job.model_id not in self._models:
            raise BadInput(f"there is no model {job.model_id!r} here", code="unknown_model")
        reason = self._model(job.model_id).get("error")
        if reason:
            # Not a 500: by that an orchestrator would take this worker for a busy one.
            raise BadInput(not_loaded(job.model_id, reason), code="model_broken")
        able = (slot for slot in self.slots if slot.state is SlotState.READY)
        slot = next((slot for slot in able if "schema" in slot.models.get(job.model_id, {})), None)
        if slot is None or self.draining:
            raise Unavailable(NO_CAPACITY, code="no_capacity")
        await slot.start(job, caller_of(request))
        log.info("slot %d: job %d of %s has started", slot.number, slot.count, job.model_id)
        return answer(
            dump(
                {
                    "publish_url": job.publish_url,
                    "subscribe_url": job.subscribe_url,
                    "control_url": job.control_url,
                    "events_url": job.events_url,
                    "manifest_id": job.manifest_id,
                    "request_id": job.gateway_request_id,
                }
            )
        )

    @web.middleware
    async def _gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The bearer token, for everything but the probes."""
        if request.path not in PROBES and not self._may_read(request):
            raise Unauthorized("the bearer token is missing or wrong")
        return await handler(request)

    def _may_read(self, request: web.Request) -> bool:
        """It brings the token, or none is asked for."""
        token = self.settings.token
        if token is None:
            return True
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {token}".encode())

    # What the answers are made of.

    def _asked_model(self, request: web.Request) -> str:
        return request.query.get("model_id") or self._models[0]

    def _model(self, model_id: str) -> dict[str, Any]:
        """What the slots' children told of a model; empty before one is loaded."""
        told = [slot.models[model_id] for slot in self.slots if model_id in slot.models]
        return next((model for model in told if "schema" in model), told[0] if told else {})

    def _all_free(self) -> bool:
        return all(slot.state is not SlotState.BUSY for slot in self.slots)

    def _note(self) -> None:
        self._changed.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that only the slots' states change."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def _look_for_gpus(self) -> None:
        self._gpus = await find_gpus()

    async def _bury(self, job: RunnerStart, caller: Caller, reason: str) -> None:
        if self._session is not None:
            reach = self._trust.reach_from(caller.peer, caller.here)
            await farewell(self._session, job, reason, self._trust.job(reach))


def _report(task: asyncio.Task[None]) -> None:
    """Say what ended a task that nobody waits for before the node stops."""
    if not task.cancelled() and task.exception() is not None:
        log.critical("a part of the worker has ended", exc_info=task.exception())


def _models_of(settings: Worker) -> list[str]:
    models = [each.model_id for each in settings.pipelines]
    if not models:
        raise ConfigError("worker.pipelines: there is none")
    twice = {model for model in models if models.count(model) > 1}
    if twice:
        raise ConfigError(f"worker.pipelines: {', '.join(sorted(twice))}: named twice")
    return models


def _package_version() -> str:
    try:
        return version("relay-gateway")
    except PackageNotFoundError:
        return "0.0.0"
