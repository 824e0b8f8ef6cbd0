"""One egress process as the gateway sees it: started, fed, asked, watched, buried."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from enum import Enum
from typing import Any, Final

from relay.errors import ParseError, PeerError, Unavailable
from relay.protocols.webrtc.processes.far import Far
from relay.protocols.webrtc.processes.feed import Feed
from relay.protocols.webrtc.processes.inlet import Inlet
from relay.protocols.webrtc.processes.link import ENDED, Link
from relay.protocols.webrtc.processes.messages import (
    Answer,
    Call,
    Claim,
    Close,
    Configure,
    Datagram,
    Ended,
    Expect,
    Farewell,
    Forget,
    Goodbye,
    Load,
    LogLine,
    Message,
    Open,
    Ready,
    Release,
    Reply,
    Shut,
    Statistics,
    Ufrag,
    Unit,
    Wanted,
)
from relay.protocols.webrtc.processes.orphans import Orphans
from relay.protocols.webrtc.processes.session import FarSession, error_of
from relay.protocols.webrtc.processes.wire import serialise
from relay.protocols.webrtc.udp import UdpPort
from relay.states import StateMachine

log = logging.getLogger(__name__)

START_WITHIN: Final = 30.0
SILENT: Final = 2.0
"""Seconds without a word after which a process hangs."""
LOOK: Final = 0.25
CALL_WITHIN: Final = 5.0
LEAVE_WITHIN: Final = 0.5
"""Seconds to tell its viewers goodbye."""
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


class EgressProcess:
    """One life of one process.

    Args:
        number: from 1; what it is called by.
        udp: the gateway's port, which it is lent.
        want_keyframe: called with the number of a rendition.
        orphans: who tells its viewers when it is lost.

    Attributes:
        share: of a core that it takes, as it last said.
        measured: viewers that it had then.
        late: pictures that it left out, since they came too late.
        unread: datagrams that it dropped, as ``Peers.dropped``.
        sessions: its viewers.
        feeds: what it is sent, by the number of the rendition.
        lost_viewers: that it had when it was lost.
    """

    def __init__(
        self,
        number: int,
        udp: UdpPort,
        configure: Configure,
        want_keyframe: Callable[[int], None],
        orphans: Orphans,
    ) -> None:
        self.number = number
        self.pid: int | None = None
        self.share = 0.0
        self.measured = 0
        self.late = 0
        self.unread: Mapping[str, int] = {}
        self.lost_viewers = 0
        self.sessions: dict[str, FarSession] = {}
        self.feeds: dict[int, Feed] = {}
        self._lost_feeds = 0
        self._udp = udp
        self._configure = configure
        self._want_keyframe = want_keyframe
        self._orphans = orphans
        self._machine = StateMachine(f"egress {number}", ProcessState.STARTING, _TABLE, log=log)
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
        return sum(feed.viewers for feed in self.feeds.values())

    @property
    def dropped(self) -> int:
        """Pictures that it was not sent, or came to it too late."""
        return self._lost_feeds + sum(feed.dropped for feed in self.feeds.values()) + self.late

    @property
    def forwarded(self) -> int:
        """Datagrams of its viewers that were handed on to it."""
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
                    *(sys.executable, "-m", "relay.protocols.webrtc.processes.child"),
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
        """Tell all who wait for it, at once: viewers too, by what it left for them."""
        self.lost_viewers += len(self.sessions)
        for session in self.sessions.values():
            session.ended(COME_BACK % how)
        self._orphans.adopt(self.sessions.values(), self._far)
        self.sessions.clear()
        self._lost_feeds = self.dropped - self.late
        self.feeds.clear()
        for waiting in self._calls.values():
            if not waiting.done():
                waiting.set_exception(PeerError(f"egress {self.number}: {how}", code="egress_lost"))
        self._calls.clear()

    def dismiss(self, reason: str) -> None:
        """It is not needed any more: viewers, if any, are told, and it ends."""
        if self.pid is None or self._machine.state is ProcessState.GONE:
            return
        if self._machine.state is not ProcessState.LEAVING:
            self._machine.to(ProcessState.LEAVING, reason)
            self._verdict, self._dismissed = reason, True
            for session in list(self.sessions.values()):
                session.ended(reason)
            self._link.send(Goodbye(reason))

    # -- what it is sent

    def unit(self, unit: Unit, data: bytes) -> None:
        feed = self.feeds.get(unit.rendition)
        if feed is not None:
            feed.put(unit, data)

    def forget(self, rendition: int) -> None:
        if rendition in self.feeds:
            self._link.send(Forget(rendition))

    def shut(self, rendition: int, reason: str) -> None:
        """The rendition is over: its viewers here are told."""
        feed = self.feeds.pop(rendition, None)
        if feed is None:
            return
        self._lost_feeds += feed.dropped
        for key, session in list(self.sessions.items()):
            if session.rendition == rendition:
                session.ended(reason)
                del self.sessions[key]
        self._link.send(Shut(rendition, reason))

    def stray(self, data: bytes, address: tuple[Any, ...]) -> None:
        self._far.stray(data, address)

    async def answer(
        self, rendition: int, offer: str, kept: Callable[[], Iterable[Unit]]
    ) -> FarSession:
        """Let a viewer in.

        Args:
            kept: the group of pictures that new viewers begin with, as units.

        Raises:
            PeerError: it was lost meanwhile.
            BadInput, TooLarge, Unprocessable, NotFound, Unavailable: as ``Egress.answer``.
        """
        feed = self.feeds.get(rendition)
        if feed is None:
            feed = Feed(rendition, self._link, lambda: self._want_keyframe(rendition))
            self.feeds[rendition] = feed
            self._link.send(Open(rendition))
            for unit in kept():
                self._link.write(serialise(unit), time.monotonic())
        feed.viewers += 1
        try:
            reply = await self._ask(Answer(0, rendition, offer))
            if self._gone.is_set():  # its last word
                raise PeerError(f"egress {self.number} is gone", code="egress_lost")
            session = FarSession(reply, self._ask, self.number, rendition)
        except BaseException:
            self._leave(rendition)
            raise
        if self.feeds.get(rendition) is not feed:
            session.ended("the stream has ended")
            return session
        self.sessions[session.id] = session
        return session

    def _leave(self, rendition: int) -> None:
        feed = self.feeds.get(rendition)
        if feed is not None:
            feed.viewers -= 1
            if not feed.viewers:
                self.shut(rendition, "nobody watches it here")

    # -- calls

    async def statistics(self, sessions: list[str]) -> list[dict[str, Any]]:
        """Fields of ``ViewerStatistics`` of those that are still there; raises PeerError."""
        reply = await self._ask(Statistics(0, sessions))
        return [{**given, "process": self.number} for given in reply["viewers"]]

    async def _ask(self, call: Call) -> Mapping[str, Any]:
        if self._machine.state is ProcessState.GONE or self._gone.is_set():
            raise PeerError(f"egress {self.number} is gone", code="egress_lost")
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

    def _replied(self, message: Reply) -> None:
        waiting = self._calls.pop(message.call, None)
        if waiting is None or waiting.done():
            if (key := message.result.get("id")) is not None:  # nobody waits for that viewer
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
        match message:
            case Ufrag() | Claim() | Release() | Expect() | Datagram():
                self._far.take(message, now)
            case Load():
                self.share, self.late = message.share, message.late
                self.measured, self.unread = message.viewers, message.dropped
            case Reply():
                self._replied(message)
            case Ended():
                session = self.sessions.pop(message.session, None)
                if session is not None:
                    session.ended(message.reason)
                    self._leave(session.rendition)
            case Farewell():
                if (known := self.sessions.get(message.session)) is not None:
                    known.keep(message)
            case Wanted():
                self._want_keyframe(message.rendition)
            case LogLine():
                logging.getLogger(message.name).log(
                    message.level, "egress %d: %s", self.number, message.text
                )
            case Ready():
                if self._machine.state is ProcessState.STARTING:
                    self._machine.to(ProcessState.READY)
            case _:
                self._lost(f"{type(message).__name__} does not come from a process")


def _end_of(process: asyncio.subprocess.Process) -> str:
    code = process.returncode or 0
    return f"killed by signal {-code}" if code < 0 else f"ended with exit status {code}"
