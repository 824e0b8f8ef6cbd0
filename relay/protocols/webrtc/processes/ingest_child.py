"""An ingest process, the program: it has an Ingest like the gateway's, and hands on what comes."""

from __future__ import annotations

import socket
import time
from dataclasses import asdict
from typing import Any

from relay.media.unit import AccessUnit
from relay.protocols.webrtc.ingest import Ingest, IngestSession
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.processes.child import Child, main
from relay.protocols.webrtc.processes.feed import Feed
from relay.protocols.webrtc.processes.link import Link
from relay.protocols.webrtc.processes.messages import (
    AskKeyframe,
    Call,
    Figures,
    Message,
    Receive,
)
from relay.protocols.webrtc.processes.wire import received


class Handing:
    """An ``IngestSink``: one publisher's way to the gateway.

    Attributes:
        session: whose it is, once it was answered.
        dropped: pictures that the gateway did not read in time.
    """

    def __init__(self, number: int, link: Link) -> None:
        self.session: IngestSession | None = None
        self._number = number
        self._feed = Feed(link, lambda: None, self.ask_keyframe)

    @property
    def dropped(self) -> int:
        return self._feed.dropped

    def ask_keyframe(self) -> None:
        if self.session is not None:
            self.session.request_keyframe()

    def unit(self, unit: AccessUnit) -> None:
        data = received(self._number, unit)  # MAX_ACCESS_UNIT fits
        self._feed.put(unit.codec, data, time.monotonic(), keyframe=unit.keyframe)

    def closed(self, reason: str) -> None:
        """The gateway is told by ``Ended``."""


class IngestChild(Child[IngestSession]):
    kind = "ingest"

    def __init__(
        self, link: socket.socket, inlet: socket.socket | None, udp: socket.socket
    ) -> None:
        super().__init__(link, inlet, udp)
        self._ingest: Ingest
        self._publishers: dict[int, Handing] = {}
        self._dropped = 0

    def _begin(self, peers: Peers) -> None:
        self._ingest = Ingest(peers)

    def _late(self) -> int:
        return self._dropped + sum(handing.dropped for handing in self._publishers.values())

    def _told(self) -> None:
        told = [
            [number, asdict(handing.session.statistics())]
            for number, handing in self._publishers.items()
            if handing.session is not None
        ]
        if told:
            self.link.send(Figures(told))

    # -- what the gateway says

    def _hear(self, message: Message) -> bool:
        if not isinstance(message, AskKeyframe):
            return False
        handing = self._publishers.get(message.publisher)
        if handing is not None:
            handing.ask_keyframe()
        return True

    # -- calls

    async def _let_in(self, message: Call) -> tuple[IngestSession, dict[str, Any]] | None:
        if not isinstance(message, Receive):
            return None
        number = message.publisher
        handing = Handing(number, self.link)
        session = await self._ingest.answer(message.offer, handing)
        handing.session = session
        self._publishers[number] = handing
        return session, {"has_video": session.has_video, "has_audio": session.has_audio}

    def _gone(self, session: IngestSession) -> None:
        for number, handing in list(self._publishers.items()):
            if handing.session is session:
                del self._publishers[number]
                self._dropped += handing.dropped


if __name__ == "__main__":
    main(IngestChild, IngestChild.kind)
