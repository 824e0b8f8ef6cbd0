"""A process of the gateway's own as it sees it: started, asked, watched, buried."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from typing import Any, ClassVar, Final, Generic, TypeVar

from relay.errors import ParseError, PeerError, Unavailable
from relay.protocols.webrtc.processes.far import Far
from relay.protocols.webrtc.processes.inlet import Inlet
from relay.protocols.webrtc.processes.link import ENDED, Link
from relay.protocols.webrtc.processes.messages import (
    Call,
    Claim,
    Close,
    Configure,
    Datagram,
    Ended,
    Expect,
    Farewell,
    Goodbye,
    Load,
    LogLine,
    Message,
    Ready,
    Release,
    Reply,
    Ufrag,
)
from relay.protocols.webrtc.processes.orphans import Orphans
from relay.protocols.webrtc.processes.session import FarSession, error_of
from relay.protocols.webrtc.udp import UdpPort
from relay.states import StateMachine

log = logging.getLogger(__name__)

PROGRAMS: Final = "relay.protocols.webrtc.processes"
START_WITHIN: Final = 30.0
SILENT: Final = 2.0
"""Seconds without a word after which a process hangs."""
LOOK: Final = 0.25
CALL_WITHIN: Final = 5.0
LEAVE_WITHIN: Final = 0.5
"""Seconds to tell its peers goodbye."""
COME_BACK: Final = "the process that served it was lost (%s); a new offer is answered by another"


class ProcessState(Enum):
    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"
    GONE = "gone"


_TABLE: Final = {
    ProcessState.STARTING: frozenset({ProcessState.READY, ProcessState.LEAVING, ProcessState.GONE}),
    ProcessState.READY: frozenset({ProcessState.LEAVING, ProcessState.GONE}),
    ProcessState.LEAVING: frozenset({ProcessState.GONE}),
    ProcessState.GONE: frozenset[ProcessState](),
}


F = TypeVar("F", bound=FarSession)


class MediaProcess(ABC, Generic[F]):
    """One life of one process.

    Args:
        number: from 1; what it is called by, with its kind.
        udp: the gateway's port, which it is lent.
        orphans: who tells its peers when it is lost.

    Attributes:
        share: of a core that it takes, as it last said.
        measured: peers that it had then.
        late: pictures that it left out, as ``Load`` has it.
        unread: datagrams that it dropped, as ``Peers.dropped``.
        sessions: of its peers.
        on_ready: called when it may be used.
        lost_peers: that it had when it was lost.
    """

    kind: ClassVar[str]
    """Of process: the word that it is started with."""
    peers_are: ClassVar[str]
    """What its peers are called."""

    def __init__(self, number: int, udp: UdpPort, configure: Configure, orphans: Orphans) -> None:
        self.number = number
        self.name = f"{self.kind} {number}"
        self.pid: int | None = None
        self.share = 0.0
        self.measured = 0
        self.late = 0
        self.unread: Mapping[str, int] = {}
        self.lost_peers = 0
        self.sessions: dict[str, F] = {}
        self.on_ready: Callable[[], None] = lambda: None
        self._udp = udp
        self._configure = configure
        self._orphans = orphans
        self._machine = StateMachine(self.name, ProcessState.STARTING, _TABLE, log=log)
        self._calls: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._next_call = 0
        self._gone = asyncio.Event()
        self._verdict = ""
        self._dismissed = False
        self._heard = 0.0
        self._link: Link
        self._far: Far

    @property
    def state(self) -> ProcessState:
        return self._machine.state

    @property
    def ready(self) -> bool:
        return self._machine.state is ProcessState.READY and not self._gone.is_set()

    @property
    def left(self) -> bool:
        """Whether it went since it was told to."""
        return self._dismissed

    @property
    def viewers(self) -> int:
        """With those that are being answered."""
        return 0

    @property
    def publishers(self) -> int:
        """With those that are being answered."""
        return 0

    @property
    def peers(self) -> int:
        return self.viewers + self.publishers

    @property
    def dropped(self) -> int:
        """Pictures that were lost on their way to it or from it."""
        return self.late

    @property
    def forwarded(self) -> int:
        """Datagrams of its peers that were handed on to it."""
        return self._far.forwarded if self.pid is not None else 0

    # -- its life

    async def run(self) -> str:
        """From its start to its end, which it is brought to when cancelled; how it ended.

        Raises:
            OSError: it cannot be started.
        """
        ours, theirs = socket.socketpair()
        inlet, port = Inlet(self._udp), self._udp.fileno()
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", f"{PROGRAMS}.{self.kind}_child"),
                    *map(str, (theirs.fileno(), inlet.theirs, port, os.getpid(), self.number)),
                    pass_fds=(theirs.fileno(), port, *inlet.passed),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=2,  # the gateway's own words stand on its stdout
                )
        except BaseException:
            ours.close()
            inlet.close()
            raise
        self._link = Link(ours, self._take, self._lost)
        self._far = Far(self._udp, self._link, inlet)
        self._heard = time.monotonic()
        self.pid = process.pid
        self._link.send(self._configure)
        exited = asyncio.create_task(process.wait())
        watching = asyncio.create_task(self._watch())
        gone = asyncio.create_task(self._gone.wait())
        try:
            await asyncio.wait({exited, gone}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({exited}, timeout=0.2)  # its exit status says more
        finally:
            for task in (watching, gone):
                task.cancel()
            if process.returncode is None:
                process.kill()
            await asyncio.gather(exited, watching, gone, return_exceptions=True)
            how = self._verdict or _end_of(process)
            self._bury(how)
        return how

    async def _watch(self) -> None:
        """A pause of our own is not held against it."""
        before = began = time.monotonic()
        while True:
            await asyncio.sleep(LOOK)
            now = time.monotonic()
            if now - before > 2 * LOOK:
                self._heard = now
            before = now
            if self._machine.state is ProcessState.STARTING:
                if now - began > START_WITHIN:
                    self._lost(f"it was not ready after {START_WITHIN:.0f} s")
            elif now - self._heard > SILENT:
                self._lost(f"it was silent for {now - self._heard:.1f} s")

    def _lost(self, verdict: str) -> None:
        """It is of no use any more; ``run`` ends it."""
        if self._machine.state is not ProcessState.LEAVING:
            self._verdict = self._verdict or ("" if verdict == ENDED else verdict)
        self._forsake(verdict)
        self._gone.set()

    def _bury(self, how: str) -> None:
        self._forsake(how)
        self._far.close()
        self._link.close()
        if self._machine.state is not ProcessState.GONE:
            self._machine.to(ProcessState.GONE, how)

    def _forsake(self, how: str) -> None:
        """Tell all who wait for it, at once: its peers too, by what it left for them."""
        self.lost_peers += len(self.sessions)
        sessions = [*self.sessions.values()]
        self.sessions.clear()
        self._orphans.adopt(sessions, self._far)
        for session in sessions:
            session.ended(COME_BACK % how)
        self._let_go()
        for waiting in self._calls.values():
            if not waiting.done():
                waiting.set_exception(PeerError(f"{self.name}: {how}", code="process_lost"))
        self._calls.clear()

    def _let_go(self) -> None:
        """Of what its peers were served with."""

    def dismiss(self, reason: str) -> None:
        """It is not needed any more: its peers, if any, are told, and it ends."""
        if self.pid is None or self._machine.state is ProcessState.GONE:
            return
        if self._machine.state is not ProcessState.LEAVING:
            self._machine.to(ProcessState.LEAVING, reason)
            self._verdict, self._dismissed = reason, True
            for session in list(self.sessions.values()):
                session.ended(reason)
            self._link.send(Goodbye(reason))

    def stray(self, data: bytes, address: tuple[Any, ...]) -> None:
        self._far.stray(data, address)

    # -- calls

    async def _ask(self, call: Call) -> Mapping[str, Any]:
        if self._machine.state is ProcessState.GONE or self._gone.is_set():
            raise self._is_gone()
        self._next_call += 1
        number = self._next_call
        waiting: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._calls[number] = waiting
        self._link.send(replace(call, call=number))
        try:
            async with asyncio.timeout(CALL_WITHIN):
                return await waiting
        except TimeoutError as error:
            raise Unavailable("too busy to answer", code="busy", retry_after=1) from error
        finally:
            self._calls.pop(number, None)

    def _is_gone(self) -> PeerError:
        return PeerError(f"{self.name} is gone", code="process_lost")

    def _replied(self, message: Reply) -> None:
        waiting = self._calls.pop(message.call, None)
        if waiting is None or waiting.done():
            if (key := message.result.get("id")) is not None:  # nobody waits for that peer
                self._link.send(Close(0, str(key), "its client waits no more"))
        elif message.error is not None:
            waiting.set_exception(error_of(message.error))
        else:
            waiting.set_result(message.result)

    # -- what it says

    def _take(self, message: Message) -> None:
        self._heard = time.monotonic()
        try:
            self._heed(message, self._heard)
        except ParseError as error:
            self._lost(f"it said what cannot be understood: {error}")

    def _heed(self, message: Message, now: float) -> None:
        if self._hear(message):  # first: access units are among it
            return
        match message:
            case Ufrag() | Claim() | Release() | Expect() | Datagram():
                self._far.take(message, now)
            case Load():
                self.share, self.late = message.share, message.late
                self.measured, self.unread = message.peers, message.dropped
            case Reply():
                self._replied(message)
            case Ended():
                session = self.sessions.pop(message.session, None)
                if session is not None:
                    session.ended(message.reason)
                    self._left(session)
            case Farewell():
                if (known := self.sessions.get(message.session)) is not None:
                    known.keep(message)
            case LogLine():
                logging.getLogger(message.name).log(
                    message.level, "%s: %s", self.name, message.text
                )
            case Ready():
                if self._machine.state is ProcessState.STARTING:
                    self._machine.to(ProcessState.READY)
                    self.on_ready()
            case _:
                self._lost(f"{type(message).__name__} does not come from an {self.kind} process")

    @abstractmethod
    def _left(self, session: F) -> None:
        """It has ended."""

    @abstractmethod
    def _hear(self, message: Message) -> bool:
        """Whether it is of those that this kind says."""


def _end_of(process: asyncio.subprocess.Process) -> str:
    code = process.returncode or 0
    return f"killed by signal {-code}" if code < 0 else f"ended with exit status {code}"
