"""An ingest process as the gateway sees it: it has publishers, and gives their access units."""

from __future__ import annotations

from relay.errors import ParseError
from relay.protocols.webrtc.ingest_sink import IngestSink
from relay.protocols.webrtc.processes.far_publisher import FarPublisher
from relay.protocols.webrtc.processes.messages import (
    AskKeyframe,
    Configure,
    Figures,
    Message,
    Receive,
    Received,
)
from relay.protocols.webrtc.processes.orphans import Orphans
from relay.protocols.webrtc.processes.process import MediaProcess
from relay.protocols.webrtc.udp import UdpPort


class IngestProcess(MediaProcess[FarPublisher]):
    """Its publishers are known by numbers of the gateway's."""

    kind = "ingest"
    peers_are = "publishers"

    def __init__(self, number: int, udp: UdpPort, configure: Configure, orphans: Orphans) -> None:
        super().__init__(number, udp, configure, orphans)
        self._publishers: dict[int, FarPublisher] = {}
        self._coming = 0
        self._next = 0

    @property
    def publishers(self) -> int:
        return len(self._publishers) + self._coming

    def _let_go(self) -> None:
        self._publishers.clear()

    async def answer(self, offer: str, sink: IngestSink) -> FarPublisher:
        """Let a publisher in; its media goes to ``sink``.

        Raises:
            PeerError: it was lost meanwhile.
            BadInput, TooLarge, Unprocessable, Unavailable: as ``Ingest.answer``.
        """
        self._next += 1
        number = self._next
        self._coming += 1
        try:
            reply = await self._ask(Receive(0, number, offer))
        finally:
            self._coming -= 1
        if self._gone.is_set():  # its last word
            raise self._is_gone()
        session = FarPublisher(
            *(reply, self._ask, self.number, number, sink),
            lambda: self._link.send(AskKeyframe(number)),
        )
        self.sessions[session.id] = self._publishers[number] = session
        return session

    # -- what it says

    def _left(self, session: FarPublisher) -> None:
        self._publishers.pop(session.number, None)

    def _hear(self, message: Message) -> bool:
        match message:
            case Received():
                publisher = self._publishers.get(message.publisher)
                if publisher is not None:
                    publisher.unit(message.unit)
            case Figures():
                self._figures(message)
            case _:
                return False
        return True

    def _figures(self, message: Figures) -> None:
        """
        Raises:
            ParseError: these are none.
        """
        for told in message.publishers:
            try:
                number, fields = told
                session = self._publishers.get(number)
                if session is not None:
                    session.told(fields, self._heard)
            except (TypeError, ValueError) as error:
                raise ParseError(f"no figures: {error}") from error
