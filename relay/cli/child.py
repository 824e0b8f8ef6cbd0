"""One role as a child process: spawned, given its settings, heard, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final

from relay.cli.lifeline import ParentLine
from relay.cli.wiring import Address
from relay.config import Settings
from relay.errors import RelayError

START_BOUND: Final = 120.0
"""Seconds until a role must be ready; a worker may load large models."""
LAST_LINES: Final = 4
LAST_WORD: Final = 0.2
"""Seconds for what a role has said just before its end."""
MAX_LOG_LINE: Final = 1 << 16


class ChildState(Enum):
    STARTING = "starting"
    LISTENING = "listening"
    READY = "ready"
    ENDED = "ended"


class ChildFailed(RelayError):
    """A role that did not start; the message names it and says why.

    Attributes:
        exit_code: what ``relay up`` should end with.
    """

    default_code = "child_failed"

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def command_of(role: str, fd: int) -> list[str]:
    return [sys.executable, "-m", "relay", role, "--supervised", str(fd)]


class Child:
    """
    Args:
        on_log: called with the role and each line that it writes.
        command: for a role and the number of its line's file descriptor.
    """

    def __init__(
        self,
        role: str,
        on_log: Callable[[str, str], None],
        command: Callable[[str, int], list[str]] = command_of,
    ) -> None:
        self.role = role
        self._command = command
        self.state = ChildState.STARTING
        self._on_log = on_log
        self._line = ParentLine()
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._logs: asyncio.Task[None] | None = None
        self._swept = False  # a group's number may go to a stranger once it is empty

    async def spawn(self) -> None:
        """Start the process, which imports its code while its settings are still made.

        It is a session of its own: a terminal's Ctrl-C reaches it only through us, and
        whatever it starts can be ended with it.
        """
        fd = self._line.theirs.fileno()
        self._process = await asyncio.create_subprocess_exec(
            *self._command(self.role, fd),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=MAX_LOG_LINE,
            pass_fds=(fd,),
            start_new_session=True,
        )
        self._logs = asyncio.create_task(self._read_logs())
        await self._line.open()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self, settings: Settings) -> Address:
        """Hand over the settings and wait until it listens.

        Raises:
            ChildFailed: it ended, or took too long.
        """
        try:
            await self._line.send(settings.model_dump(mode="json"))
        except OSError:
            raise await self._failure(None) from None
        message = await self._hear("listening")
        self.state = ChildState.LISTENING
        return Address.told(message["listening"])

    async def until_ready(self) -> None:
        """Raises ChildFailed like ``start``."""
        await self._hear("ready")
        self.state = ChildState.READY

    async def _hear(self, word: str) -> dict[str, dict[str, object]]:
        try:
            async with asyncio.timeout(START_BOUND):
                message = await self._line.receive()
        except TimeoutError:
            raise ChildFailed(
                f"{self.role} could not start: not {word} after {START_BOUND:.0f} s"
            ) from None
        if message is None or word not in message:
            raise await self._failure(message)
        return message

    async def _failure(self, message: dict[str, object] | None) -> ChildFailed:
        if message is not None and "failed" in message:
            code = message.get("code")
            reason = f"{self.role} could not start: {message['failed']}"
            return ChildFailed(reason, exit_code=code if isinstance(code, int) else 1)
        how = await self.wait()
        lines = "".join(f"\n  {line}" for line in self._last)
        return ChildFailed(f"{self.role} could not start: it {how}{lines}")

    async def wait(self) -> str:
        """Wait for its end; returns how it ended, in words."""
        assert self._process is not None
        code = await self._process.wait()
        self.state = ChildState.ENDED
        self.kill()  # what it may have left in its group
        if self._logs is not None:  # the last words are still in the pipe
            await asyncio.wait({self._logs}, timeout=LAST_WORD)
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    async def ended_as_asked(self) -> bool:
        """Of one that was ready and has ended: whether a signal asked it to, and all went well."""
        assert self._process is not None
        if self._process.returncode != 0:
            return False
        try:
            async with asyncio.timeout(LAST_WORD):
                message = await self._line.receive()
        except TimeoutError:
            return False
        return message is not None and "asked" in message

    def terminate(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it and all that it started, at once."""
        if self._process is None or self._swept:
            return
        self._swept = self._process.returncode is not None
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    async def close(self) -> None:
        self.kill()
        if self._process is not None:
            await self._process.wait()
        self._line.close()
        if self._logs is not None:
            self._logs.cancel()
            await asyncio.wait({self._logs})

    async def _read_logs(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while True:
            try:
                raw = await self._process.stdout.readline()
            except ValueError:  # a line over the bound: its pieces are dropped
                continue
            if not raw:
                return
            line = raw.decode(errors="replace").rstrip("\n")
            self._last.append(line)
            self._on_log(self.role, line)
