"""The real network in processes of its own, on free ports, for scenarios.

Only processes that a ``Network`` started are ever signalled.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil

ROOT: Final = Path(__file__).resolve().parents[1]
START_BOUND: Final = 60.0
STOP_BOUND: Final = 10.0
# Everything on free ports: nothing of a test is found where another program looks.
FREE_PORTS: Final[Mapping[str, Any]] = {
    "gateway.port": 0,
    "gateway.webrtc.port": 0,
    "orchestrator.port": 0,
    "worker.port": 0,
    "worker.slots": 1,
}


async def ran(
    *words: str, before: Sequence[str] = (), within: float = 90.0
) -> tuple[int, str, str]:
    """Run ``relay`` to its end: exit code, stdout, stderr.

    Args:
        before: words of a program that runs it.
    """
    process = await asyncio.create_subprocess_exec(
        *(*before, sys.executable, "-m", "relay", *words),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), within)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


class Program:
    """One ``relay`` command that says on stdout, in one JSON line, when it is ready."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.ready: dict[str, Any] = {}
        self._errors = folder / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    async def start(
        cls, command: str, folder: Path, settings: Mapping[str, Any], *, name: str | None = None
    ) -> Program:
        """Raises AssertionError, with what it said, when it does not become ready."""
        program = cls(name or command, folder)
        words = [f"--set={key}={json.dumps(value)}" for key, value in settings.items()]
        with program._errors.open("wb") as stderr:
            program._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "relay",
                command,
                "--json",
                f"--set=orchestrator.data_dir={folder / program.name}",
                *words,
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
            )
        try:
            await program._hear()
        except BaseException:
            await program.stop()
            raise
        return program

    async def _hear(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), START_BOUND)
        except TimeoutError:
            line = b""
        told = json.loads(line or "{}")
        started = bool(told) and "error" not in told
        if not started:
            with contextlib.suppress(TimeoutError):  # the words follow the line
                await self.wait()
        assert started, f"{self.name} did not become ready:\n{self.said()}"
        self.ready = told

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return str(self.ready["url"])

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def said(self) -> str:
        """All that it has written to stderr so far."""
        return self._errors.read_text(errors="replace")

    def children(self) -> list[psutil.Process]:
        """Its direct children, by age."""
        if not self.running:
            return []
        found = psutil.Process(self.pid).children()
        return sorted(found, key=lambda child: child.create_time())

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self, seconds: float = STOP_BOUND) -> int:
        """Its exit code; raises TimeoutError."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), seconds)

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL for it and all that it started."""
        if not self.running:
            return
        family = psutil.Process(self.pid).children(recursive=True)
        self.send(signal.SIGCONT)  # a scenario may have stopped it
        self.send(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await self.wait(4)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.running:
            self.send(signal.SIGKILL)
            await self.wait()


class Network:
    """``relay up``, with handles to each role's process."""

    def __init__(self, up: Program) -> None:
        self.up = up

    @classmethod
    async def start(cls, folder: Path, **settings: Any) -> Network:
        """
        Args:
            folder: for logs and certificates, a test's ``tmp_path``.
            settings: keys with two underscores for the dot, as ``worker__slots=2``.
        """
        chosen = {key.replace("__", "."): value for key, value in settings.items()}
        return cls(await Program.start("up", folder, {**FREE_PORTS, **chosen}))

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, folder: Path, **settings: Any) -> AsyncIterator[Network]:
        network = await cls.start(folder, **settings)
        try:
            yield network
        finally:
            await network.stop()

    @classmethod
    @contextlib.contextmanager
    def shared(cls, folder: Path, **settings: Any) -> Iterator[Network]:
        """One for tests that have a loop each: to start one costs four seconds of a core."""
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            network = runner.run(cls.start(folder, **settings))
            try:
                yield network
            finally:
                runner.run(network.stop())

    async def idle(self) -> bool:
        """Whether the worker has all of its capacity."""
        worker = self.up.ready["worker"]["url"]
        try:
            async with aiohttp.ClientSession() as http, http.get(f"{worker}/health") as answer:
                slots = (await answer.json())["slots"]
        except aiohttp.ClientConnectionError:
            return False
        return bool(slots["free"] == slots["total"] > 0)

    @property
    def url(self) -> str:
        """The gateway's HTTP base address."""
        return str(self.up.ready["gateway"]["url"])

    def whip(self, name: str) -> str:
        return f"{self.url}/whip/{name}"

    def whep(self, name: str) -> str:
        return f"{self.url}/whep/{name}"

    def watch(self, name: str) -> str:
        return f"{self.url}/watch/{name}"

    def process(self, role: str) -> psutil.Process | None:
        """The process that runs a role now; None while it is being started again."""
        for child in self.up.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if role in child.cmdline():
                    return child
        return None

    def slots(self) -> list[psutil.Process]:
        """The worker's media processes."""
        worker = self.process("worker")
        if worker is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return sorted(worker.children(), key=lambda child: child.create_time())
        return []

    async def stop(self) -> None:
        await self.up.stop()


async def eventually(
    check: Callable[[], object], seconds: float = 15.0, every: float = 0.05
) -> Any:
    """Wait until ``check``, which may be asynchronous, answers something true; return that.

    Raises:
        AssertionError: it did not in time; the last answer is told.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        answer = check()
        value = await answer if isinstance(answer, Awaitable) else answer
        if value:
            return value
        assert loop.time() < deadline, f"not within {seconds} s; last answer: {value!r}"
        await asyncio.sleep(every)
