"""The child of a slot: ``python -m relay.worker.slot FD PARENT``.

It loads every pipeline once, then runs one job after the other. It never outlives its
parent: the kernel kills it with the parent, and the end of the pipe ends it too.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

import uvloop

from relay.errors import BadInput, ParseError, RelayError
from relay.rpc import records
from relay.rpc.json_body import dump
from relay.rpc.runner import RunnerStart
from relay.rpc.trust import Trust
from relay.worker.codec import quiet
from relay.worker.job import Job, JobSettings
from relay.worker.loader import Entry, LoadedPipeline, PipelineFailed
from relay.worker.messages import (
    Beat,
    Configure,
    Ended,
    Loaded,
    LogLine,
    Message,
    Refused,
    Start,
    Started,
    Stop,
)
from relay.worker.pipe import Pipe
from relay.worker.thread import MediaThread

log = logging.getLogger("relay.worker.slot")
"""Named outright: run as a program, this module is ``__main__``."""

PR_SET_PDEATHSIG: Final = 1
SWITCH_INTERVAL: Final = 0.0003
"""Seconds; the default of 5 ms starves the media thread next to a busy loop."""

CLOSE_WITHIN: Final = 0.5
MAX_LOG_TEXT: Final = 2000


class Child:
    """
    Args:
        pipe: to the parent.
        configure: what to load and how to run jobs.
    """

    def __init__(self, pipe: Pipe, configure: Configure) -> None:
        self._pipe = pipe
        self._configure = configure
        self._settings = JobSettings(configure.bitrate, configure.keyframe_interval)
        ca = Path(configure.node_ca) if configure.node_ca else None
        self._trust = Trust(configure.node_tls, configure.reach, ca=ca)
        self._pipelines: dict[str, LoadedPipeline] = {}
        self._job: Job | None = None
        self._death: BaseException | None = None
        self._media = MediaThread(asyncio.get_running_loop(), self._died)

    async def run(self) -> None:
        """Load, then serve until the parent is gone."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._beat()), group.create_task(self._load())]
            while (message := await self._pipe.receive()) is not None:
                if isinstance(message, Start):
                    await self._start(message, group)
                elif isinstance(message, Stop) and self._job is not None:
                    self._job.end(message.reason)
            if self._job is not None:
                self._job.end("the worker goes away")
            for task in tasks:
                task.cancel()
        await self._close()

    async def _beat(self) -> None:
        while True:
            since = self._media.busy_since
            self._send(Beat(0.0 if since is None else time.monotonic() - since))
            if self._death is not None:
                raise self._death
            await asyncio.sleep(self._configure.beat)

    async def _load(self) -> None:
        models: dict[str, dict[str, Any]] = {}
        for each in self._configure.pipelines:
            entry = Entry(each["model_id"], each["entry"], each["settings"])
            try:
                loaded = await self._media.call(lambda entry=entry: LoadedPipeline(entry))  # type: ignore[misc]
                dump(loaded.schema)
            except RelayError as error:
                log.error("pipeline %s cannot be served: %s", entry.model_id, error)
                models[entry.model_id] = {"error": str(error)}
            else:
                self._pipelines[entry.model_id] = loaded
                models[entry.model_id] = {"version": loaded.version, "schema": loaded.schema}
        gc.collect()
        gc.freeze()
        self._send(Loaded(models))

    async def _start(self, message: Start, group: asyncio.TaskGroup) -> None:
        try:
            start = RunnerStart.parse(dump(message.start))
            pipeline = self._pipelines.get(start.model_id)
            if self._job is not None or pipeline is None:
                raise BadInput("this slot cannot run that job", code="slot")
            trust = self._trust.job(self._trust.reach_from(message.peer, message.here))
            for url in start.urls:
                trust.guard(url)
            pipeline.parameters.reset()
            values = pipeline.parameters.merged(start.params)
            await self._media.call(lambda: pipeline.begin(values))
            pipeline.parameters.put(values)
        except RelayError as error:
            self._send(Refused(error.code, str(error)))
            return
        self._job = Job(start, pipeline, self._media, self._settings, trust)
        self._send(Started())
        group.create_task(self._run(self._job, pipeline))

    async def _run(self, job: Job, pipeline: LoadedPipeline) -> None:
        end = await job.run()
        try:
            await self._media.call(pipeline.reset)
        except PipelineFailed as error:
            log.warning("after the job: %s", error)
        gc.collect()
        self._job = None
        self._send(Ended(end.reason, end.failed))

    async def _close(self) -> None:
        """Let the pipelines close, in the time there is."""
        try:
            async with asyncio.timeout(CLOSE_WITHIN):
                for pipeline in self._pipelines.values():
                    await self._media.call(pipeline.close)
        except (TimeoutError, RelayError) as error:
            log.debug("pipelines were not all closed: %s", error)

    def _died(self, error: BaseException) -> None:
        self._death = error

    def _send(self, message: Message) -> None:
        self._pipe.send(message)


class PipeLog(logging.Handler):
    """Hands the child's log to the parent, which writes it as its own."""

    def __init__(self, pipe: Pipe, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._pipe = pipe
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)[-MAX_LOG_TEXT:].encode("utf-8", "replace").decode()
        if not self._loop.is_closed():
            line = LogLine(record.levelno, record.name, text)
            self._loop.call_soon_threadsafe(self._pipe.send, line)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however that comes about."""
    if sys.platform == "linux":  # elsewhere the end of the pipe has to do
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call
        os.kill(os.getpid(), signal.SIGKILL)


async def serve(end: socket.socket) -> None:
    pipe = await Pipe.open(end)
    configure = await pipe.receive()
    if configure is None:
        return
    if not isinstance(configure, Configure):
        raise ParseError("the parent did not begin with Configure")
    handler = PipeLog(pipe, asyncio.get_running_loop())
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(message)s")
    await Child(pipe, configure).run()


def main() -> None:
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    for ask in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which drains
        signal.signal(ask, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_INTERVAL)
    quiet()
    records.read_by_record()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(socket.socket(fileno=descriptor)))


if __name__ == "__main__":
    main()
