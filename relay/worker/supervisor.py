"""The parent's side of one slot: keeps a warm child, and notices when it is of no use."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, Final

from relay.errors import BadInput, ParseError, PeerError, PeerTimeout, RelayError, Unavailable
from relay.rpc.runner import NO_CAPACITY, RunnerStart
from relay.states import StateMachine
from relay.worker.messages import (
    NOBODY,
    Beat,
    Caller,
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

log = logging.getLogger(__name__)

LOAD_WITHIN: Final = 300.0
"""Seconds for all pipelines of a child; models are read and warmed up in it."""

START_WITHIN: Final = 3.5
"""Seconds for a job to begin; a stock orchestrator's gateway gives up after 5."""

STOP_WITHIN: Final = 3.0
EXIT_WITHIN: Final = 0.8
LAST_WORDS: Final = 0.2
BACKOFF: Final = (0.0, 0.2, 1.0, 3.0, 5.0)
MANY_FAILURES: Final = 3
STEADY: Final = 10.0
"""Seconds of life after which a child's end is not taken for a failing start."""

SINGLE_THREAD: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class SlotState(Enum):
    DOWN = "down"
    LOADING = "loading"
    READY = "ready"
    BUSY = "busy"
    CLOSED = "closed"


_TABLE: Final = {
    SlotState.DOWN: frozenset({SlotState.LOADING, SlotState.CLOSED}),
    SlotState.LOADING: frozenset({SlotState.READY, SlotState.DOWN, SlotState.CLOSED}),
    SlotState.READY: frozenset({SlotState.BUSY, SlotState.DOWN, SlotState.CLOSED}),
    SlotState.BUSY: frozenset({SlotState.READY, SlotState.DOWN, SlotState.CLOSED}),
    SlotState.CLOSED: frozenset[SlotState](),
}

Bury = Callable[[RunnerStart, Caller, str], Awaitable[None]]


class Slot:
    """
    Args:
        number: for the log.
        configure: the first message to each child.
        watchdog: seconds that a child may be silent, or hang in one step of its job.
        bury: called with a job, who asked for it, and a reason when the job's child is
            lost: tells the job's readers. The next child does not wait for it.
        on_change: called after each change of ``state``.

    Attributes:
        models: as the child told: model id to ``{"version", "schema"}`` or ``{"error"}``.
        problem: why there is no child that works, in words.
        count: jobs that it was given: what the log calls the newest. A manifest id is
            never logged; whoever knows it may read and delete the job's channels.
    """

    def __init__(
        self,
        number: int,
        configure: Configure,
        watchdog: float,
        bury: Bury,
        on_change: Callable[[], None],
    ) -> None:
        self.number = number
        self.models: dict[str, dict[str, Any]] = {}
        self.problem = ""
        self.count = 0
        self._configure = configure
        self._watchdog = watchdog
        self._bury = bury
        self._burials: set[asyncio.Task[None]] = set()
        self._machine = StateMachine(
            f"slot {number}",
            SlotState.DOWN,
            _TABLE,
            log=log,
            on_change=lambda old, new: on_change(),
        )
        self._failures = 0
        self._pipe: Pipe | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._job: RunnerStart | None = None
        self._caller = NOBODY
        self._running = False
        self._reply: asyncio.Future[None] | None = None
        self._heard = 0.0
        self._stuck = 0.0
        self._verdict = ""

    @property
    def state(self) -> SlotState:
        return self._machine.state

    @property
    def broken(self) -> bool:
        """It does not work, and is not about to."""
        if self.state in (SlotState.READY, SlotState.BUSY):
            return all("error" in model for model in self.models.values())
        return self._failures >= MANY_FAILURES

    @property
    def job(self) -> RunnerStart | None:
        """What runs in it."""
        return self._job

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self, job: RunnerStart, caller: Caller = NOBODY) -> None:
        """Run a job.

        Args:
            caller: who asked for it.

        Raises:
            BadInput: its parameters, or the pipeline with them, do not work.
            Unavailable: the slot is not free.
            PeerError: the child was lost in the attempt.
        """
        if self.state is not SlotState.READY or self._pipe is None:
            raise Unavailable(NO_CAPACITY, code="no_capacity")
        reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reply, self._job, self._caller = reply, job, caller
        self.count += 1
        self._machine.to(SlotState.BUSY, f"job {self.count}")
        try:
            self._begin(job)
            async with asyncio.timeout(START_WITHIN):
                await reply
        except TimeoutError as error:
            self.kill("it did not start a job in time")
            raise PeerTimeout("the job did not start in time") from error
        finally:
            self._reply = None

    def _begin(self, job: RunnerStart) -> None:
        try:
            self._tell(Start(_fields(job), self._caller.peer, self._caller.here))
        except ParseError:
            self._job = None
            self._machine.to(SlotState.READY, "the job cannot be told")
            raise

    def stop(self, reason: str) -> None:
        """Have the job end, if there is one; the state tells when it has."""
        if self.state is SlotState.BUSY:
            self._tell(Stop(reason))

    def kill(self, verdict: str) -> None:
        """End the child at once; another one takes its place."""
        self._verdict = self._verdict or verdict
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def run(self) -> None:
        """Keep a child alive, until cancelled; then end it."""
        try:
            while True:
                began = time.monotonic()
                self._machine.to(SlotState.LOADING)
                try:
                    problem = await self._life()
                except OSError as error:
                    problem = f"it cannot be started: {error}"
                steady = time.monotonic() - began > STEADY
                self._failures = 1 if steady else self._failures + 1
                self._lost(problem)
                await asyncio.sleep(BACKOFF[min(self._failures, len(BACKOFF)) - 1])
        finally:
            self._machine.to(SlotState.CLOSED)
            if self._burials:
                await asyncio.wait(self._burials, timeout=EXIT_WITHIN)
            for task in self._burials:
                task.cancel()

    # One child.

    async def _life(self) -> str:
        """One child from its start to its end; how it ended."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "relay.worker.slot",
                    str(theirs.fileno()),
                    str(os.getpid()),
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=2,  # what a pipeline prints must not mix with what the parent prints
                    env={**dict.fromkeys(SINGLE_THREAD, "1"), **os.environ},
                )
            self._process, self._verdict = process, ""
            try:
                await self._attend(ours, process)
            finally:
                await _ended(process)
        return self._verdict or _end_of(process)

    async def _attend(self, ours: socket.socket, process: asyncio.subprocess.Process) -> None:
        """Listen to the child until it is gone, or is told to go."""
        pipe = await Pipe.open(ours)
        self._pipe = pipe
        self._heard, self._stuck = time.monotonic(), 0.0
        self._tell(self._configure)
        listening = asyncio.create_task(self._listen(pipe))
        tasks = {
            listening,
            asyncio.create_task(self._watch()),
            asyncio.create_task(process.wait()),
        }
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({listening}, timeout=LAST_WORDS)
        finally:
            self._pipe = None
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await pipe.close()
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _listen(self, pipe: Pipe) -> None:
        try:
            while (message := await pipe.receive()) is not None:
                self._heard = time.monotonic()
                self._take(message)
        except ParseError as error:
            self.kill(f"it said what cannot be understood: {error}")

    async def _watch(self) -> None:
        """Kill a child that is silent or hangs. A pause of our own is not held against it."""
        began = before = time.monotonic()
        while True:
            await asyncio.sleep(self._configure.beat / 2)
            now = time.monotonic()
            if now - before > self._configure.beat * 2:
                self._heard = now
            before = now
            loading = self.state is SlotState.LOADING
            if now - self._heard > (LOAD_WITHIN if loading else self._watchdog):
                self.kill(f"it was silent for {now - self._heard:.1f} s")
            elif not loading and self._stuck > self._watchdog:
                self.kill(f"its pipeline hung for {self._stuck:.1f} s")
            elif loading and now - began > LOAD_WITHIN:
                self.kill("its pipelines were not loaded in time")

    def _take(self, message: Message) -> None:
        match message:
            case Beat():
                self._stuck = message.stuck
            case LogLine():
                logging.getLogger(message.name).log(
                    message.level, "slot %d: %s", self.number, message.text
                )
            case Loaded():
                self.models, self.problem = message.models, ""
                self._machine.to(SlotState.READY)
            case Started():
                self._running = True
                self._settle(None)
            case Refused():
                self._job = None
                self._machine.to(SlotState.READY, "refused")
                self._settle(BadInput(message.message, code=message.code))
            case Ended():
                level = logging.WARNING if message.failed else logging.INFO
                log.log(level, "slot %d: the job has ended: %s", self.number, message.reason)
                self._job, self._running = None, False
                self._machine.to(SlotState.READY, message.reason)
            case _:
                raise ParseError(f"{type(message).__name__} does not come from a child")

    def _lost(self, problem: str) -> None:
        """The child is gone; so is its job."""
        self.problem = problem
        log.error("slot %d: the child is lost: %s", self.number, problem)
        self._settle(PeerError(f"the job's process was lost: {problem}", code="slot_lost"))
        job, self._job = self._job, None
        running, self._running = self._running, False
        if job is not None and running:
            burial = asyncio.create_task(self._bury_job(job, self._caller, problem))
            self._burials.add(burial)
            burial.add_done_callback(self._burials.discard)
        self._machine.to(SlotState.DOWN, problem)

    def _tell(self, message: Message) -> None:
        if self._pipe is None:
            return
        try:
            self._pipe.send(message)
        except PeerError as error:
            self.kill(str(error))

    async def _bury_job(self, job: RunnerStart, caller: Caller, problem: str) -> None:
        await self._bury(job, caller, f"the job's process was lost: {problem}")

    def _settle(self, error: RelayError | None) -> None:
        reply = self._reply
        if reply is None or reply.done():
            return
        if error is None:
            reply.set_result(None)
        else:
            reply.set_exception(error)


def _fields(job: RunnerStart) -> dict[str, Any]:
    return {
        "subscribe_url": job.subscribe_url,
        "publish_url": job.publish_url,
        "control_url": job.control_url,
        "events_url": job.events_url,
        "model_id": job.model_id,
        "params": dict(job.params),
        "gateway_request_id": job.gateway_request_id,
        "manifest_id": job.manifest_id,
        "stream_id": job.stream_id,
        "trickle_token": job.trickle_token,
    }


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Wait for the process to end by itself, a little; then end it."""
    try:
        async with asyncio.timeout(EXIT_WITHIN):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _end_of(process: asyncio.subprocess.Process) -> str:
    code = process.returncode or 0
    return f"killed by signal {-code}" if code < 0 else f"ended with exit status {code}"
