"""An egress process as the gateway sees it: it has renditions that it is fed, and viewers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from relay.protocols.webrtc.processes.feed import Feed
from relay.protocols.webrtc.processes.link import Link
from relay.protocols.webrtc.processes.messages import (
    Answer,
    Configure,
    Forget,
    Message,
    Open,
    Shut,
    Statistics,
    Unit,
    Wanted,
)
from relay.protocols.webrtc.processes.orphans import Orphans
from relay.protocols.webrtc.processes.process import MediaProcess
from relay.protocols.webrtc.processes.session import FarViewer
from relay.protocols.webrtc.processes.wire import serialise
from relay.protocols.webrtc.udp import UdpPort


class RenditionFeed(Feed):
    """One rendition's way into one process: once for all of its viewers there.

    Attributes:
        viewers: that the process has of it, or is being asked for.
    """

    def __init__(self, rendition: int, link: Link, want_keyframe: Callable[[], None]) -> None:
        # No viewer can begin across a gap.
        super().__init__(link, lambda: link.send(Forget(rendition)), want_keyframe)
        self.viewers = 0


class EgressProcess(MediaProcess[FarViewer]):
    """
    Args:
        want_keyframe: called with the number of a rendition.

    Attributes:
        feeds: what it is sent, by the number of the rendition.
    """

    kind = "egress"
    peers_are = "viewers"

    def __init__(
        self,
        number: int,
        udp: UdpPort,
        configure: Configure,
        orphans: Orphans,
        want_keyframe: Callable[[int], None],
    ) -> None:
        super().__init__(number, udp, configure, orphans)
        self.feeds: dict[int, RenditionFeed] = {}
        self._lost_feeds = 0
        self._want_keyframe = want_keyframe

    @property
    def viewers(self) -> int:
        return sum(feed.viewers for feed in self.feeds.values())

    @property
    def dropped(self) -> int:
        """Pictures that it was not sent, or came to it too late."""
        return self._lost_feeds + sum(feed.dropped for feed in self.feeds.values()) + self.late

    def _let_go(self) -> None:
        self._lost_feeds = self.dropped - self.late
        self.feeds.clear()

    # -- what it is sent

    def unit(self, unit: Unit, data: bytes) -> None:
        """
        Args:
            data: the unit as it is written.
        """
        feed = self.feeds.get(unit.rendition)
        if feed is not None:
            feed.put(unit.codec, data, unit.at, keyframe=unit.keyframe)

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

    async def answer(
        self, rendition: int, offer: str, kept: Callable[[], Iterable[Unit]]
    ) -> FarViewer:
        """Let a viewer in.

        Args:
            kept: the group of pictures that new viewers begin with, as units.

        Raises:
            PeerError: it was lost meanwhile.
            BadInput, TooLarge, Unprocessable, NotFound, Unavailable: as ``Egress.answer``.
        """
        feed = self.feeds.get(rendition)
        if feed is None:
            feed = RenditionFeed(rendition, self._link, lambda: self._want_keyframe(rendition))
            self.feeds[rendition] = feed
            self._link.send(Open(rendition))
            for unit in kept():
                self._link.write(serialise(unit), time.monotonic())
        feed.viewers += 1
        try:
            reply = await self._ask(Answer(0, rendition, offer))
            if self._gone.is_set():  # its last word
                raise self._is_gone()
            session = FarViewer(reply, self._ask, self.number, rendition)
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

    async def statistics(self, sessions: list[str]) -> list[dict[str, Any]]:
        """Fields of ``ViewerStatistics`` of those that are still there; raises PeerError."""
        reply = await self._ask(Statistics(0, sessions))
        return [{**given, "process": self.number} for given in reply["viewers"]]

    # -- what it says

    def _left(self, session: FarViewer) -> None:
        self._leave(session.rendition)

    def _hear(self, message: Message) -> bool:
        if isinstance(message, Wanted):
            self._want_keyframe(message.rendition)
            return True
        return False
