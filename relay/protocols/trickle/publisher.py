"""Publishes one channel: a POST a segment, the next one connected before it is needed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from enum import Enum
from typing import Any, Final

import aiohttp

from relay.errors import ChannelClosed, PeerError, PeerRefused, PeerTimeout, RelayError
from relay.protocols.trickle import answers
from relay.protocols.trickle.client import (
    TIMEOUT,
    Ssl,
    complaint,
    endpoint,
    is_final,
    peer_error,
)
from relay.protocols.trickle.upload import ABORTED, SegmentBody, SegmentWriter, Upload
from relay.states import StateMachine

log = logging.getLogger(__name__)

_PRECONNECT_AFTER: Final = 0.01
"""Seconds that the first bytes of a segment have for themselves: making a request takes longer
than sending them, and they are the key frame that everybody waits for."""

_RETRIES: Final = (0.05, 0.1, 0.2, 0.4)
"""Seconds between attempts to connect a POST of which no byte has gone out."""

_MAX_LOST: Final = 3
_MAX_IN_FLIGHT: Final = 8
_MAX_SKIPPED: Final = 16
_STOOD: Final = 1.0
_ANSWER_WITHIN: Final = 10.0
_CLOSE_WITHIN: Final = 2.0


class Publishing(Enum):
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


_TABLE: Final = {
    Publishing.OPEN: frozenset({Publishing.CLOSING}),
    Publishing.CLOSING: frozenset({Publishing.CLOSED}),
    Publishing.CLOSED: frozenset[Publishing](),
}


class TricklePublisher:
    """Writes segments one after the other to a channel of some server.

    Args:
        session: the caller's (``client.open_session``); it is not closed here.
        url: of the channel.
        mime: the content type of each POST.
        ssl: how the certificate is verified; see ``aiohttp``.
        headers: sent with each request.
        first_sequence: number of the first segment.
        reset: the first POST closes what an earlier publisher left half-written.
        max_buffer: bytes that may wait for a slow socket until a segment is given up.
        max_age: seconds that they may; None: for ever. For media, which is worth nothing late.

    Attributes:
        failed: why nothing can be published any more; ``on_failure`` is called with it, once.
        lost: segments that were begun and did not get through; ``on_lost`` is called with each.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        mime: str = "video/MP2T",
        ssl: Ssl = True,
        headers: Mapping[str, str] | None = None,
        first_sequence: int = 0,
        reset: bool = False,
        max_buffer: int = 8 << 20,
        max_age: float | None = None,
    ) -> None:
        self._endpoint = endpoint(session, url, ssl, headers)
        self._mime = mime
        self._first = first_sequence if reset else None
        self._max_buffer = max_buffer
        self._max_age = max_age
        self._next = first_sequence
        self._preconnected: SegmentWriter | None = None
        self._preconnecting: asyncio.TimerHandle | None = None
        self._begun: set[SegmentWriter] = set()
        self._posts: dict[SegmentWriter, asyncio.Task[None]] = {}
        self._deletes: set[asyncio.Task[None]] = set()
        self._deadlines: dict[SegmentWriter, asyncio.Timeout] = {}
        self._lost_in_a_row = 0
        self._skipped = 0
        self._machine = StateMachine("trickle publisher", Publishing.OPEN, _TABLE, log=log)
        self.failed: RelayError | None = None
        self.on_failure: Callable[[RelayError], None] | None = None
        self.on_lost: Callable[[SegmentWriter], None] | None = None
        self.lost = 0

    @property
    def in_flight(self) -> int:
        """Segments begun and not answered yet."""
        return len(self._begun)

    async def open(self) -> None:
        """Connect the POST of the first segment; its headers are out when this returns.

        Raises:
            RelayError: the server cannot be reached, or refused at once.
        """
        segment = self._preconnect()
        await segment.wait_connected()
        if self.failed is not None:
            raise self.failed

    def begin(self) -> SegmentWriter:
        """Begin the next segment on the POST that is open for it, and connect the one after.

        Raises:
            RelayError: ``failed``, or the publisher is closed.
        """
        if self.failed is not None:
            raise self.failed
        if self._machine.state is not Publishing.OPEN:
            raise ChannelClosed("the publisher is closed")
        if self.in_flight >= _MAX_IN_FLIGHT:
            unanswered = PeerTimeout(f"{self.in_flight} segments are not answered")
            self._fail(unanswered)
            raise unanswered
        segment = self._preconnect()
        self._preconnected = None
        self._begun.add(segment)
        self._next = segment.sequence + 1
        loop = asyncio.get_running_loop()
        self._preconnecting = loop.call_later(_PRECONNECT_AFTER, self._preconnect_if_open)
        return segment

    async def close(self, *, delete: bool = True) -> None:
        """Let ended segments be answered, delete the channel, and leave nothing behind.

        Args:
            delete: whether the channel goes; without, only what is half-written goes.
        """
        if self._machine.state is not Publishing.OPEN:
            return
        self._machine.to(Publishing.CLOSING)
        if self._preconnecting is not None:
            self._preconnecting.cancel()
        try:
            for segment in list(self._begun):
                if segment.state is Upload.OPEN:
                    segment.abort()
            await self._settle()
            if delete and not isinstance(self.failed, ChannelClosed):
                await self._endpoint.delete(self._endpoint.url)
        finally:
            self._machine.to(Publishing.CLOSED)
            for segment in list(self._posts):
                segment.lose(ChannelClosed("the publisher is closed"))
            await self._cancel()

    # Requests.

    def _preconnect(self) -> SegmentWriter:
        if self._preconnected is None:
            segment = SegmentWriter(
                self._next, self._max_buffer, on_change=self._changed, max_age=self._max_age
            )
            post = asyncio.create_task(self._post(segment))
            post.add_done_callback(lambda post: self._done(segment, post))
            self._posts[segment] = post
            self._preconnected = segment
        return self._preconnected

    def _preconnect_if_open(self) -> None:
        if self._machine.state is Publishing.OPEN and self.failed is None:
            self._preconnect()

    async def _post(self, segment: SegmentWriter) -> None:
        """See one segment through, to an answer or to its loss."""
        try:
            async with asyncio.timeout(None) as deadline:
                self._deadlines[segment] = deadline
                self._limit_answer(segment)
                await self._attempts(segment)
        except TimeoutError:
            self._lose(segment, PeerTimeout(f"segment {segment.sequence} was not answered"))

    async def _attempts(self, segment: SegmentWriter) -> None:
        """Send until a byte has gone out; retry while none has, a few times in a row."""
        loop = asyncio.get_running_loop()
        delays = iter(_RETRIES)
        while True:
            begun = loop.time()
            try:
                await self._attempt(segment)
                return
            except (aiohttp.ClientError, OSError) as failure:
                error: PeerError = peer_error(failure)
            except PeerError as refusal:
                error = refusal
            if loop.time() - begun > _STOOD:
                # It stood for a while and was cut, as some proxies do with idle requests.
                delays = iter(_RETRIES)
            delay = None if is_final(error) else next(delays, None)
            if segment.touched or delay is None:
                self._lose(segment, error)
                return
            segment.detach()
            await asyncio.sleep(delay)

    async def _attempt(self, segment: SegmentWriter) -> None:
        headers = dict(self._endpoint.headers)
        if segment.sequence == self._first:
            headers[answers.RESET] = "1"
        async with self._endpoint.session.post(
            self._endpoint.at(segment.sequence),
            data=SegmentBody(segment, self._mime),
            headers=headers,
            skip_auto_headers=("Accept-Encoding",),
            ssl=self._endpoint.ssl,
            allow_redirects=False,
            timeout=TIMEOUT,
        ) as response:
            refused = response.status not in (200, 404)
            words = await complaint(response) if refused else ""
            if segment.state is not Upload.ENDED:
                # The rest of the body has nowhere to go.
                response.close()
            if refused:
                raise PeerRefused(f"segment {segment.sequence} refused: {words}")
            if response.status == 404 or answers.CLOSED in response.headers:
                self._fail(ChannelClosed("the channel is closed"))
            else:
                self._accepted(segment)

    # What may become of a segment.

    def _accepted(self, segment: SegmentWriter) -> None:
        """The server has answered 200."""
        if segment.state is Upload.ENDED:
            segment.answered()
            self._lost_in_a_row = self._skipped = 0
        elif segment is self._preconnected:
            self._skip(segment)
        else:
            self._lose(segment, PeerError(f"segment {segment.sequence} was closed early"))

    def _skip(self, segment: SegmentWriter) -> None:
        """The server has closed a segment that was not begun: the next one takes its place."""
        self._skipped += 1
        segment.answered()
        self._preconnected = None
        if self._skipped > _MAX_SKIPPED:
            self._fail(PeerRefused("the server closes each segment before it begins"))
        else:
            self._next = segment.sequence + 1
            self._preconnect_if_open()

    def _lose(self, segment: SegmentWriter, error: RelayError) -> None:
        if segment is self._preconnected:
            # Nothing was lost yet, but whatever comes next would be.
            self._fail(error)
        else:
            segment.lose(error)

    def _changed(self, segment: SegmentWriter) -> None:
        match segment.state:
            case Upload.ENDED:
                self._limit_answer(segment)
            case Upload.LOST:
                self._given_up(segment)

    def _limit_answer(self, segment: SegmentWriter) -> None:
        deadline = self._deadlines.get(segment)
        if deadline is not None and segment.state is Upload.ENDED:
            deadline.reschedule(asyncio.get_running_loop().time() + _ANSWER_WITHIN)

    def _given_up(self, segment: SegmentWriter) -> None:
        """Count the loss, and close the segment for its readers: servers keep it open."""
        was_begun = segment in self._begun
        self._begun.discard(segment)
        post = self._posts.get(segment)
        if post is not None and post is not asyncio.current_task():
            post.cancel()
        over = self.failed is not None or self._machine.state is Publishing.CLOSED
        if over or not was_begun:
            return
        self.lost += 1
        log.info("trickle segment %d is lost: %s", segment.sequence, segment.error)
        if self.on_lost is not None:
            self.on_lost(segment)
        self._spawn(self._endpoint.delete(self._endpoint.at(segment.sequence)))
        if segment.error is not None and segment.error.code != ABORTED:
            self._lost_in_a_row += 1
            if self._lost_in_a_row >= _MAX_LOST:
                self._fail(segment.error)

    def _done(self, segment: SegmentWriter, post: asyncio.Task[None]) -> None:
        """The request of a segment is over."""
        self._deadlines.pop(segment, None)
        self._posts.pop(segment, None)
        self._begun.discard(segment)
        if not post.cancelled() and (error := post.exception()) is not None:
            # A mistake of ours or of the caller's (a closed session); nobody waits in vain.
            log.error("trickle publisher broke", exc_info=error)
            self._fail(PeerError(f"the publisher broke: {error}", code="internal"))
            segment.lose(PeerError(f"the publisher broke: {error}", code="internal"))

    def _fail(self, error: RelayError) -> None:
        if self.failed is not None:
            return
        self.failed = error
        # A channel that is closed is how the other side says that the stream is over.
        level = logging.DEBUG if isinstance(error, ChannelClosed) else logging.INFO
        log.log(level, "trickle publisher failed: %s", error)
        for segment in list(self._posts):
            segment.lose(error)
        if self.on_failure is not None and self._machine.state is Publishing.OPEN:
            self.on_failure(error)

    # Tasks.

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._deletes.add(task)
        task.add_done_callback(self._deletes.discard)

    async def _settle(self) -> None:
        """Give what is under way a moment to arrive."""
        waiting = [self._posts[segment] for segment in self._begun if segment in self._posts]
        waiting += self._deletes
        if waiting:
            await asyncio.wait(waiting, timeout=_CLOSE_WITHIN)

    async def _cancel(self) -> None:
        tasks = [*self._posts.values(), *self._deletes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def send_whole(publisher: TricklePublisher, data: bytes) -> None:
    """Send one segment in one write and wait for its answer.

    Raises:
        RelayError: it did not get through.
    """
    segment = publisher.begin()
    if segment.write(data):
        segment.end()
    await segment.wait_answered()
