"""WHEP: renditions out to any number of viewers.

The caller packetises once a frame; here each viewer's numbers, keys and state are. One
timer serves all: sender reports, and the steps of viewers that catch up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from relay.errors import NotFound
from relay.media.unit import VIDEO_CLOCK, Codec
from relay.protocols.webrtc.egress_session import EgressSession, ViewerStatistics
from relay.protocols.webrtc.fanout import MAX_PAYLOAD
from relay.protocols.webrtc.native_fanout import NativeSender
from relay.protocols.webrtc.payloads import Payloads
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.rendition import Rendition
from relay.protocols.webrtc.session import GRAIN
from relay.protocols.webrtc.viewer import CATCH_UP_STEP, Frame

__all__ = ["Egress", "EgressSession", "ViewerStatistics"]

_TICK: Final = 0.1
"""Seconds between two looks at what is due beside pictures, at least."""
_H264: Final = Codec.H264


class Egress:
    """All renditions of a process, and their viewers.

    Args:
        native: sends to the viewers; None: pure Python does.
    """

    def __init__(self, peers: Peers, native: NativeSender | None = None) -> None:
        self._peers = peers
        self._native = native
        self._renditions: dict[str, Rendition] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._next_tick = 0.0

    @classmethod
    def over(cls, peers: Peers) -> Egress:
        """With native code, where that was built and is wanted."""
        udp = peers.udp
        native = NativeSender.over(udp.fileno(), udp.count) if peers.settings.native else None
        return cls(peers, native)

    def open(self, rendition: str, *, on_keyframe_wanted: Callable[[], None]) -> None:
        """Make a rendition; a second call changes only whom key frames are asked of.

        Args:
            on_keyframe_wanted: called at most once in KEYFRAME_INTERVAL.
        """
        known = self._renditions.get(rendition)
        if known is not None:
            known.on_keyframe_wanted = on_keyframe_wanted
            return
        made = Rendition(rendition, on_keyframe_wanted, self._native)
        made.wake = self._schedule
        self._renditions[rendition] = made

    def frame(
        self,
        rendition: str,
        codec: Codec,
        payloads: Sequence[bytes],
        timestamp: int,
        *,
        keyframe: bool = False,
    ) -> None:
        """Send one access unit to all viewers of a rendition.

        Args:
            payloads: its RTP payloads; not changed after. With one of more than
                MAX_PAYLOAD bytes the unit is dropped and counted.
            timestamp: on the rendition's own line, not wrapped, in the codec's RTP clock
                (video 90 kHz, Opus 48 kHz); both codecs count from the same zero.

        Raises:
            NotFound: no such rendition.
        """
        known = self._renditions.get(rendition) or self._find(rendition)
        if type(payloads) is not Payloads:  # those were cut to fit
            if not payloads:
                return
            if max(map(len, payloads)) > MAX_PAYLOAD:
                known.unsendable += 1  # an Opus packet of an odd encoder
                return
        if codec is _H264:
            known.clock.observe(timestamp / VIDEO_CLOCK, time.time())
            known.video(payloads, timestamp, keyframe=keyframe)
        else:
            known.clock.observe(timestamp / 48_000, time.time())
            known.audio(payloads, timestamp)

    def kept(self, rendition: str) -> tuple[Sequence[Frame], float]:
        """The group of pictures that new viewers begin with, and when its last one came.

        Raises: NotFound.
        """
        known = self._find(rendition)
        return tuple(known.group), known.pictured_at

    def restore(
        self, rendition: str, payloads: Sequence[bytes], timestamp: int, keyframe: bool, at: float
    ) -> None:
        """A picture of such a group, of another process: viewers that are here do not get it.

        Args:
            at: monotonic seconds when the group's last one came.

        Raises: NotFound.
        """
        frame = Frame(payloads, sum(map(len, payloads)), timestamp)
        self._find(rendition).restore(frame, keyframe=keyframe, at=at)

    def want_keyframe(self, rendition: str) -> None:
        """Somebody needs one; asked for at most once in KEYFRAME_INTERVAL."""
        if (known := self._renditions.get(rendition)) is not None:
            known.want_keyframe(time.monotonic())

    def total(self) -> int:
        """Viewers of all renditions."""
        return sum(len(known.sessions) for known in self._renditions.values())

    def forget(self, rendition: str) -> None:
        """Start no viewer from the pictures so far: what they are of is over."""
        if (known := self._renditions.get(rendition)) is not None:
            known.group = []

    async def answer(self, rendition: str, offer: str) -> EgressSession:
        """Let a viewer in; it may come before any frame.

        Raises:
            NotFound: no such rendition.
            BadInput, TooLarge, Unprocessable, Unavailable: as ``Peers.answer``.
        """
        known = self._find(rendition)
        peer = await self._peers.answer(offer, receive=False)
        session = EgressSession(peer, known, self._native)
        if self._renditions.get(rendition) is not known:
            await session.close("the stream has ended")
            raise NotFound(f"no rendition {rendition}", code="no_rendition")
        known.sessions[session.id] = session
        return session

    def viewers(
        self,
        rendition: str,
        *,
        limit: int | None = None,
        after: Callable[[str], bool] | None = None,
    ) -> list[ViewerStatistics]:
        """The viewers as they are now, in the order in which they came.

        Args:
            limit: at most so many; each costs time on the loop that sends pictures.
            after: those that came later than the one whose id this is true of; all, where
                there is none (any more).

        Raises:
            NotFound: no such rendition.
        """
        sessions = list(self._find(rendition).sessions.values())
        places = (at for at, session in enumerate(sessions, 1) if after and after(session.id))
        first, now = next(places, 0), time.monotonic()
        until = None if limit is None else first + limit
        return [session.statistics(now) for session in sessions[first:until]]

    def count(self, rendition: str) -> int:
        """How many viewers there are, without looking at each.

        Raises: NotFound.
        """
        return len(self._find(rendition).sessions)

    async def close(self, rendition: str, reason: str) -> None:
        """End a rendition: each viewer is told. Unknown ones are ended already."""
        self.end(rendition, reason)

    def end(self, rendition: str, reason: str) -> None:
        """``close`` for callers that cannot wait; nothing in it waits anyway."""
        known = self._renditions.pop(rendition, None)
        if known is not None:
            for session in list(known.sessions.values()):
                session.peer.end(reason)
        if not self._renditions and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _find(self, rendition: str) -> Rendition:
        known = self._renditions.get(rendition)
        if known is None:
            raise NotFound(f"no rendition {rendition}", code="no_rendition")
        return known

    # -- the timer

    def _schedule(self) -> None:
        """Be woken while there is anyone to be served."""
        self._wake_again(any(known.busy for known in self._renditions.values()))

    def _wake_again(self, busy: bool) -> None:
        loop, now = asyncio.get_running_loop(), time.monotonic()
        at = now + CATCH_UP_STEP if busy else inf
        watched = [known.due_at for known in self._renditions.values() if known.sessions]
        # Whoever is due in between is served with the others.
        at = min(at, max(min(watched, default=inf) + GRAIN, self._next_tick))
        if at == inf:
            return
        when = loop.time() + max(0.0, at - now)
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = loop.call_at(when, self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = time.monotonic()
        busy = False
        for known in list(self._renditions.values()):
            if known.busy:
                known.pump()
                busy = busy or known.busy
        if now >= self._next_tick:
            self._next_tick = now + _TICK
            wall = time.time()
            for known in list(self._renditions.values()):
                known.tick(now, wall)
        self._wake_again(busy)
