"""An egress process: ``python -m relay.protocols.webrtc.processes.child LINK UDP PARENT NUMBER``.

It has an Egress like the gateway's, over the gateway's port. It never outlives the gateway: the
kernel kills it with its parent, and the end of the link ends it too.
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
from dataclasses import asdict
from typing import Any, Final

import uvloop

from relay import memory
from relay.config import WebRtc
from relay.errors import NotFound, RelayError
from relay.media.unit import Codec
from relay.protocols.webrtc.egress import Egress, EgressSession
from relay.protocols.webrtc.native_fanout import NativeSender
from relay.protocols.webrtc.peer_state import PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.processes.feed import MAX_AGE
from relay.protocols.webrtc.processes.inlet import NONE
from relay.protocols.webrtc.processes.lent import LentPort
from relay.protocols.webrtc.processes.link import Link
from relay.protocols.webrtc.processes.load import INTERVAL, Meter
from relay.protocols.webrtc.processes.messages import (
    Answer,
    Call,
    Close,
    Configure,
    Datagram,
    Ended,
    Farewell,
    Forget,
    Goodbye,
    Load,
    LogLine,
    Lost,
    Message,
    Open,
    Patch,
    Ready,
    Reply,
    Shut,
    Statistics,
    Unit,
    Wanted,
)
from relay.protocols.webrtc.processes.session import error_told
from relay.protocols.webrtc.sdp import Candidate
from relay.protocols.webrtc.stun import Address

log = logging.getLogger("relay.protocols.webrtc.processes.child")
"""Named outright: run as a program, this module is ``__main__``."""

MAX_LOG_TEXT: Final = 2000
MAX_UNREAD_LOG: Final = 64 << 10
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15


class Child:
    """
    Args:
        link: a socket to the gateway.
        inlet: another, by which its native code hands datagrams on; None: it does not.
        udp: the gateway's port.
    """

    def __init__(
        self, link: socket.socket, inlet: socket.socket | None, udp: socket.socket
    ) -> None:
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._udp_socket, self._inlet = udp, inlet
        self._sessions: dict[str, EgressSession] = {}
        self._farewells: dict[str, Address] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._skipping: set[int] = set()
        self._late = 0
        self._port: LentPort
        self._peers: Peers | None = None
        self._egress: Egress
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
            self.link.send(Load(share, len(self._sessions), self._late, dropped))
            await asyncio.sleep(INTERVAL)

    def _leave_farewell(self, session: EgressSession) -> None:
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
        native = None
        if settings.native:
            native = NativeSender.over(self._port.fileno(), self._port.count)
            self._port.read_inlet(self._inlet)
        self._egress = Egress(self._peers, native)
        self.link.on_message = self._take
        memory.settle()
        self.link.send(Ready())

    def _take(self, message: Message) -> None:
        match message:
            case Unit():
                self._unit(message)
            case Datagram():
                self._port.receive(message, time.monotonic())
            case Lost():
                self._port.drop_stream(message.address)
            case Answer() | Patch() | Close() | Statistics():
                task = asyncio.create_task(self._call(message))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
            case Open():
                self._open(message.rendition)
            case Forget():
                self._egress.forget(str(message.rendition))
            case Shut():
                self._shut(message)
            case Goodbye():
                self._finish(message.reason)
            case _:
                self._finish(f"{type(message).__name__} does not come from a gateway")

    def _open(self, rendition: int) -> None:
        self._egress.open(
            str(rendition), on_keyframe_wanted=lambda: self.link.send(Wanted(rendition))
        )

    def _shut(self, message: Shut) -> None:
        """At once: the next message may open it again."""
        self._skipping.discard(message.rendition)
        self._egress.end(str(message.rendition), message.reason)

    def _unit(self, unit: Unit) -> None:
        """Send it on; what waited too long is left out up to the next key frame, but sound."""
        name, number = str(unit.rendition), unit.rendition
        try:
            if unit.kept:
                self._egress.restore(name, unit.payloads, unit.timestamp, unit.keyframe, unit.at)
                return
            if unit.codec is Codec.H264 and self._is_left_out(unit, name, number):
                return
            self._egress.frame(
                name, unit.codec, unit.payloads, unit.timestamp, keyframe=unit.keyframe
            )
        except NotFound:
            return  # shut meanwhile

    def _is_left_out(self, unit: Unit, name: str, number: int) -> bool:
        late = time.monotonic() - unit.at > MAX_AGE
        if not late and (unit.keyframe or number not in self._skipping):
            self._skipping.discard(number)
            return False
        self._late += 1
        if number not in self._skipping:
            self._skipping.add(number)
            self._egress.forget(name)  # no viewer can begin across a gap
        if not late:
            self._egress.want_keyframe(name)
        return True

    # -- calls

    async def _call(self, message: Call) -> None:
        session: EgressSession | None = None
        try:
            if isinstance(message, Answer):
                session = await self._egress.answer(str(message.rendition), message.offer)
                told = {"id": session.id, "answer": session.answer, "etag": session.etag}
            else:
                told = await self._do(message)
        except RelayError as error:
            self.link.send(Reply(message.call, {}, error_told(error)))
            return
        except Exception as error:  # BLE001: told and logged; one call
            log.exception("%s failed", type(message).__name__)
            fault = error_told(RelayError(f"the egress process failed: {error!r}"))
            self.link.send(Reply(message.call, {}, fault))
            return
        self.link.send(Reply(message.call, told))
        if session is not None:
            self._attend(session)

    async def _do(self, message: Patch | Close | Statistics) -> dict[str, Any]:
        if isinstance(message, Statistics):
            now = time.monotonic()
            found = [self._sessions[key] for key in message.sessions if key in self._sessions]
            return {"viewers": [asdict(session.statistics(now)) for session in found]}
        session = self._sessions.get(message.session)
        if session is None:
            raise NotFound("the session has ended", code="session_ended")
        if isinstance(message, Close):
            await session.close(message.reason)
            return {}
        answer = await session.patch(message.body.encode("latin-1"), message.if_match)
        return {**asdict(answer), "current": session.etag}

    def _attend(self, session: EgressSession) -> None:
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


async def serve(link: socket.socket, inlet: socket.socket | None, udp: socket.socket) -> None:
    child = Child(link, inlet, udp)
    logging.basicConfig(level=logging.INFO, handlers=[LinkLog(child.link)], format="%(message)s")
    await child.run()


def main() -> None:
    memory.keep_trimmed()
    link, inlet, udp, parent, number = map(int, sys.argv[1:6])
    live_with(parent, f"relay egress {number}")
    for ask in (signal.SIGINT, signal.SIGTERM):  # meant for the gateway, which drains
        signal.signal(ask, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        lent = socket.socket(fileno=inlet) if inlet != NONE else None
        runner.run(serve(socket.socket(fileno=link), lent, socket.socket(fileno=udp)))


if __name__ == "__main__":
    main()
