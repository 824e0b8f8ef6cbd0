"""What processes of the gateway's own have in common: link, port, sessions, and an end.

Their peers are on the gateway's port. They never outlive it: the kernel kills each with its
parent, and the end of the link ends it too.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar, Final, Generic, TypeVar

import uvloop

from relay import memory
from relay.config import WebRtc
from relay.errors import NotFound, RelayError
from relay.protocols.webrtc.peer_state import PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.processes.inlet import NONE
from relay.protocols.webrtc.processes.lent import LentPort
from relay.protocols.webrtc.processes.link import Link
from relay.protocols.webrtc.processes.load import INTERVAL, Meter
from relay.protocols.webrtc.processes.messages import (
    Call,
    Close,
    Configure,
    Datagram,
    Ended,
    Farewell,
    Goodbye,
    Load,
    LogLine,
    Lost,
    Message,
    Patch,
    Ready,
    Reply,
)
from relay.protocols.webrtc.processes.session import error_told
from relay.protocols.webrtc.sdp import Candidate
from relay.protocols.webrtc.session import Session
from relay.protocols.webrtc.stun import Address

log = logging.getLogger(__name__)

MAX_LOG_TEXT: Final = 2000
MAX_UNREAD_LOG: Final = 64 << 10
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15


S = TypeVar("S", bound=Session)


class Child(ABC, Generic[S]):
    """
    Args:
        link: a socket to the gateway.
        inlet: another, by which its native code hands datagrams on; None: it does not.
        udp: the gateway's port.
    """

    kind: ClassVar[str]

    def __init__(
        self, link: socket.socket, inlet: socket.socket | None, udp: socket.socket
    ) -> None:
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._udp_socket, self._inlet = udp, inlet
        self._sessions: dict[str, S] = {}
        self._farewells: dict[str, Address] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._port: LentPort
        self._peers: Peers | None = None
        self.link = Link(link, self._first, self._finish)

    async def run(self) -> None:
        """Serve until the gateway says goodbye, or is gone."""
        beating = asyncio.create_task(self._beat())
        giving = asyncio.create_task(memory.Giver().run())
        try:
            reason = await self._over
        finally:
            beating.cancel()
            giving.cancel()
            await asyncio.gather(beating, giving, *self._calls, return_exceptions=True)
        for session in list(self._sessions.values()):
            await session.close(reason)
        if self._peers is not None:
            await self._peers.close()
        self.link.close()

    def _finish(self, reason: str) -> None:
        if not self._over.done():
            self._over.set_result(reason)

    async def _beat(self) -> None:
        meter = Meter()
        while True:
            share = meter.add(time.monotonic(), time.thread_time())
            # What is of no peer here was counted by the gateway, which read it.
            dropped = self._peers.dropped | {"unknown": 0} if self._peers is not None else {}
            self.link.send(Load(share, len(self._sessions), self._late(), dropped))
            self._told()
            await asyncio.sleep(INTERVAL)

    # -- what a kind has of its own

    @abstractmethod
    def _begin(self, peers: Peers) -> None:
        """Serve from now on."""

    @abstractmethod
    def _hear(self, message: Message) -> bool:
        """Whether it is of those that this kind is told."""

    @abstractmethod
    async def _let_in(self, message: Call) -> tuple[S, dict[str, Any]] | None:
        """A session, and what is told of it beside the usual; None: no such call.

        Raises:
            RelayError: it is refused.
        """

    async def _look(self, message: Call) -> dict[str, Any]:
        """Answer a call that is none of these."""
        raise NotFound(f"no such call: {type(message).__name__}")

    def _gone(self, session: S) -> None:
        """It is over."""

    def _late(self) -> int:
        """``Load.late``."""
        return 0

    def _told(self) -> None:
        """Say what else there is, as often as the load is said."""

    # -- farewells

    def _leave_farewell(self, session: S) -> None:
        """With the gateway, of a viewer that connects or has moved: should this process be lost,
        it is told at once, and need not find out by silence."""
        address, datagrams = session.peer.address, session.peer.goodbye()
        if address is not None and datagrams and address != self._farewells.get(session.id):
            self._farewells[session.id] = address
            told = [datagram.hex() for datagram in datagrams]
            self.link.send(Farewell(session.id, list(address), told))

    # -- what the gateway says

    def _first(self, message: Message) -> None:
        if not isinstance(message, Configure):
            self._finish("the gateway did not begin with Configure")
            return
        logging.getLogger().setLevel(message.level)
        settings = WebRtc(**message.settings)
        candidates = [Candidate(**given) for given in message.candidates]
        loop = asyncio.get_running_loop()
        self._port = LentPort(self._udp_socket, loop, self.link.send)
        self._peers = Peers(settings, self._port, None, candidates)
        if settings.native:
            self._port.read_inlet(self._inlet)
        self._begin(self._peers)
        self.link.on_message = self._take
        memory.settle()
        self.link.send(Ready())

    def _take(self, message: Message) -> None:
        if self._hear(message):
            return
        if isinstance(message, Datagram):
            self._port.receive(message, time.monotonic())
        elif isinstance(message, Call):
            task = asyncio.create_task(self._call(message))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
        elif isinstance(message, Lost):
            self._port.drop_stream(message.address)
        elif isinstance(message, Goodbye):
            self._finish(message.reason)
        else:
            self._finish(f"{type(message).__name__} does not come from a gateway")

    # -- calls

    async def _call(self, message: Call) -> None:
        session: S | None = None
        try:
            if (made := await self._let_in(message)) is not None:
                session, more = made
                told = {"id": session.id, "answer": session.answer, "etag": session.etag, **more}
            else:
                told = await self._do(message)
        except RelayError as error:
            self.link.send(Reply(message.call, {}, error_told(error)))
            return
        except Exception as error:  # BLE001: told and logged; one call
            log.exception("%s failed", type(message).__name__)
            fault = error_told(RelayError(f"the {self.kind} process failed: {error!r}"))
            self.link.send(Reply(message.call, {}, fault))
            return
        self.link.send(Reply(message.call, told))
        if session is not None:
            self._attend(session)

    async def _do(self, message: Call) -> dict[str, Any]:
        if not isinstance(message, Patch | Close):
            return await self._look(message)
        session = self._sessions.get(message.session)
        if session is None:
            raise NotFound("the session has ended", code="session_ended")
        if isinstance(message, Close):
            await session.close(message.reason)
            return {}
        answer = await session.patch(message.body.encode("latin-1"), message.if_match)
        return {**asdict(answer), "current": session.etag}

    def _attend(self, session: S) -> None:
        """Leave its goodbye with the gateway before it can know that it is connected, and tell
        the gateway when it ends."""
        go = session.peer.on_route

        def ready() -> None:
            self._leave_farewell(session)

        def routed() -> None:
            go()
            ready()

        def changed(state: PeerState) -> None:
            session.state_changed(state)
            if state is PeerState.CLOSED:
                over()

        def over() -> None:
            self._sessions.pop(session.id, None)
            self._farewells.pop(session.id, None)
            self._gone(session)
            self.link.send(Ended(session.id, session.close_reason))

        self._sessions[session.id] = session
        if session.is_closed:
            over()
        else:
            session.peer.on_state = changed
            session.peer.on_ready, session.peer.on_route = ready, routed


class LinkLog(logging.Handler):
    """Hands the log to the gateway, which writes it as its own."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        if self._link.waiting < MAX_UNREAD_LOG:
            text = self.format(record)[-MAX_LOG_TEXT:].encode("utf-8", "replace").decode()
            self._link.send(LogLine(record.levelno, record.name, text))


def live_with(parent: int, name: str) -> None:
    """Have the kernel kill this process when its parent ends, and call it by its name."""
    if sys.platform == "linux":  # elsewhere the end of the link has to do
        library = ctypes.CDLL(None)
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        library.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call
        os.kill(os.getpid(), signal.SIGKILL)


async def serve(
    made: Callable[[socket.socket, socket.socket | None, socket.socket], Child[Any]],
    link: socket.socket,
    inlet: socket.socket | None,
    udp: socket.socket,
) -> None:
    child = made(link, inlet, udp)
    logging.basicConfig(level=logging.INFO, handlers=[LinkLog(child.link)], format="%(message)s")
    await child.run()


def main(
    made: Callable[[socket.socket, socket.socket | None, socket.socket], Child[Any]], kind: str
) -> None:
    """The program ``python -m MODULE LINK INLET UDP PARENT NUMBER``."""
    memory.keep_trimmed()
    link, inlet, udp, parent, number = map(int, sys.argv[1:6])
    live_with(parent, f"relay {kind} {number}")
    for ask in (signal.SIGINT, signal.SIGTERM):  # meant for the gateway, which drains
        signal.signal(ask, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        lent = socket.socket(fileno=inlet) if inlet != NONE else None
        served = serve(made, socket.socket(fileno=link), lent, socket.socket(fileno=udp))
        runner.run(served)
