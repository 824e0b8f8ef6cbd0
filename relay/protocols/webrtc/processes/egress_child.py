"""An egress process, the program: it has an Egress like the gateway's."""

from __future__ import annotations

import socket
import time
from dataclasses import asdict
from typing import Any

from relay.errors import NotFound
from relay.media.unit import Codec
from relay.protocols.webrtc.egress import Egress, EgressSession
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.processes.child import Child, main
from relay.protocols.webrtc.processes.feed import MAX_AGE
from relay.protocols.webrtc.processes.messages import (
    Answer,
    Call,
    Forget,
    Message,
    Open,
    Shut,
    Statistics,
    Unit,
    Wanted,
)


class EgressChild(Child[EgressSession]):
    kind = "egress"

    def __init__(
        self, link: socket.socket, inlet: socket.socket | None, udp: socket.socket
    ) -> None:
        super().__init__(link, inlet, udp)
        self._egress: Egress
        self._skipping: set[int] = set()
        self._left_out = 0

    def _begin(self, peers: Peers) -> None:
        self._egress = Egress.over(peers)

    def _late(self) -> int:
        return self._left_out

    # -- what the gateway says

    def _hear(self, message: Message) -> bool:
        match message:
            case Unit():
                self._unit(message)
            case Open():
                self._open(message.rendition)
            case Forget():
                self._egress.forget(str(message.rendition))
            case Shut():
                self._shut(message)
            case _:
                return False
        return True

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
        self._left_out += 1
        if number not in self._skipping:
            self._skipping.add(number)
            self._egress.forget(name)  # no viewer can begin across a gap
        if not late:
            self._egress.want_keyframe(name)
        return True

    # -- calls

    async def _let_in(self, message: Call) -> tuple[EgressSession, dict[str, Any]] | None:
        if not isinstance(message, Answer):
            return None
        return await self._egress.answer(str(message.rendition), message.offer), {}

    async def _look(self, message: Call) -> dict[str, Any]:
        if not isinstance(message, Statistics):
            return await super()._look(message)
        now = time.monotonic()
        found = [self._sessions[key] for key in message.sessions if key in self._sessions]
        return {"viewers": [asdict(session.statistics(now)) for session in found]}


if __name__ == "__main__":
    main(EgressChild, EgressChild.kind)
