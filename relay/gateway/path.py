"""A path: one named live stream, from its publisher to its viewers.

The path outlives publishers and jobs: it holds the clock, the rendition and the
viewers. Publishers come, take over and go; each one has its own live job.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import aiohttp

from relay import metrics
from relay.config import Gateway
from relay.errors import Conflict, NotFound, RelayError, Unavailable
from relay.gateway import params as parameters
from relay.gateway.dispatcher import KEYFRAME_END, KEYFRAME_WARNING
from relay.gateway.errands import Errands
from relay.gateway.journal import Tell, ingest_stats, silent
from relay.gateway.live import Live
from relay.gateway.publisher import Publisher, Wish
from relay.gateway.rates import Meter
from relay.gateway.rendition import Rendition
from relay.gateway.sellers import Sellers
from relay.gateway.status import Departure, StreamState, StreamStatus
from relay.media.stream import Stream
from relay.media.unit import VIDEO_CLOCK, AccessUnit
from relay.protocols.webrtc.egress_session import ViewerStatistics
from relay.protocols.webrtc.processes.egresses import Egresses
from relay.protocols.webrtc.processes.far_publisher import PublisherSession
from relay.protocols.webrtc.processes.ingests import Ingests
from relay.protocols.webrtc.processes.session import ServedSession
from relay.states import StateMachine

log = logging.getLogger(__name__)

SILENT: Final = 1.0
"""Seconds without a packet after which an open gateway lets another publisher take over."""

CLOSE_TIMEOUT: Final = 6.0
"""Seconds for a job to end: longer than its channels take to close by themselves."""

S = StreamState
TABLE: Final = {
    S.WAITING: frozenset({S.CONNECTING, S.ENDED}),
    S.CONNECTING: frozenset({S.STARTING, S.WAITING, S.ENDED}),
    S.STARTING: frozenset({S.LIVE, S.SWITCHING, S.FAILED, S.CONNECTING, S.WAITING, S.ENDED}),
    S.LIVE: frozenset({S.SWITCHING, S.FAILED, S.CONNECTING, S.WAITING, S.ENDED}),
    S.SWITCHING: frozenset({S.LIVE, S.FAILED, S.CONNECTING, S.WAITING, S.ENDED}),
    S.FAILED: frozenset({S.LIVE, S.STARTING, S.SWITCHING, S.CONNECTING, S.WAITING, S.ENDED}),
    S.ENDED: frozenset[StreamState](),
}


class Path:
    """One named live stream."""

    def __init__(
        self,
        name: str,
        *,
        settings: Gateway,
        sellers: Sellers,
        http: aiohttp.ClientSession,
        ingest: Ingests,
        egress: Egresses,
        tell: Tell = silent,
    ) -> None:
        self.name = name
        self._settings = settings
        self._sellers = sellers
        self._http = http
        self._ingest = ingest
        self._egress = egress
        self._tell = tell
        self._states = StateMachine(f"stream {name}", S.WAITING, TABLE, log=log)
        self._code = "no_publisher"
        self._reason = (
            f"nobody publishes it; its viewers wait {settings.viewer_wait:g} s for somebody"
        )
        self._since: float | None = time.time()
        self._notice: tuple[str, str] | None = None
        self.publishing = 0
        """Publishers that are being answered."""
        self.joining = 0
        """Viewers that are being answered."""
        self._epoch: float | None = None
        self._last_pts = 0
        self._publisher: Publisher | None = None
        self._departure: Departure | None = None
        self._live: Live | None = None
        self._task: asyncio.Task[None] | None = None
        self._stream = Stream()
        self._meter = Meter("ingest")
        # A path that ends must not take the rendition of its name's next one along.
        self._key = f"{name}/{secrets.token_hex(4)}"
        self.rendition = Rendition(
            self._key, egress, show_source=settings.show_source_while_switching
        )
        self.lonely_since = time.monotonic()
        """Since when there is no publisher; meaningless while there is one."""
        self._errands = Errands(f"stream {name}")
        egress.open(self._key, on_keyframe_wanted=self._viewer_wants_keyframe)

    # --- publishers --------------------------------------------------------------------

    @property
    def has_publisher(self) -> bool:
        return self._publisher is not None

    @property
    def stream_id(self) -> str:
        return self._publisher.stream_id if self._publisher is not None else ""

    async def publish(self, offer: str, wish: Wish) -> PublisherSession:
        """Answer a publisher; it takes the name over when it may.

        Raises:
            Conflict: somebody else publishes, and there is no key to tell who is who.
            Unavailable: the stream was stopped meanwhile.
        """
        self._check_takeover()
        publisher = Publisher(self, wish, self._tell)
        self.publishing += 1
        try:
            session = await self._ingest.answer(offer, publisher)
        finally:
            self.publishing -= 1
        publisher.session = session
        if self._settings.webrtc.ingest_processes and not session.process:
            log.warning("stream %s: no ingest process is ready: it is received here", self.name)
        try:
            # While this one was being answered, another may have come, or the end.
            self._check_takeover()
            if self._ended:
                raise Unavailable("the stream was stopped", code="stream_stopped", retry_after=1)
        except RelayError as error:
            await session.close(str(error))
            raise
        old = self._publisher
        if old is not None:
            old.teller.closed("another publisher took the name over")
        self._leave_publisher()
        self._publisher = publisher
        publisher.teller.arrived()
        publisher.search = self._sellers.search(wish.model, only=wish.orchestrator)
        self._stream = Stream()
        self.moved(S.CONNECTING)
        metrics.STREAM_STARTS.inc()
        if old is not None and old.session is not None:
            self._errands.begin(old.session.close("another publisher took the name over"))
        return session

    def _check_takeover(self) -> None:
        if self._publisher is None or self._settings.publish_key is not None:
            return
        if time.monotonic() - self._publisher.heard < SILENT:
            raise Conflict(
                f"somebody else is live as “{self.name}”", code="name_taken", retry_after=1
            )

    def publisher_gone(self, publisher: Publisher, reason: str) -> None:
        if publisher is not self._publisher:
            return
        publisher.teller.closed(f"whip disconnected: {reason}")
        self._departure = Departure(time.time(), reason)
        self._leave_publisher()
        if not self._ended:
            self.moved(S.WAITING, "publisher_gone", f"the publisher left: {reason}")

    def look(self, now: float) -> None:
        """To be called now and then: a publisher whose media does not begin is told so,
        and ended. Media begins with a key frame."""
        publisher = self._publisher
        if publisher is None or publisher.session is None or self._live is not None:
            return
        waited = now - publisher.came
        text = f"the publisher has sent no key frame for {waited:.0f} seconds"
        if waited > KEYFRAME_END:
            self._errands.begin(publisher.session.close(text))
        elif waited > KEYFRAME_WARNING:
            self.moved(S.CONNECTING, "no_keyframe", text)

    def _leave_publisher(self) -> None:
        """Stop the live job of the publisher that was here."""
        if self._publisher is not None:
            metrics.STREAM_ENDS.inc()
            self._publisher.leave()
        self._publisher = None
        self._live = None
        self.lonely_since = time.monotonic()
        if self._task is not None:
            self._task.cancel()
            self._errands.keep(self._task)
            self._task = None
        self._stream.close()
        self._meter.tell()
        self._egress.forget(self._key)

    # --- media ---------------------------------------------------------------------------

    def clock(self, now: float) -> int:
        """The path's time, 90 kHz: 0 at its first unit, and never behind what was sent."""
        if self._epoch is None:
            self._epoch = now
        elapsed = int((now - self._epoch) * VIDEO_CLOCK)
        return max(elapsed, self._last_pts + VIDEO_CLOCK // 30) if self._last_pts else elapsed

    def unit(self, publisher: Publisher, unit: AccessUnit) -> None:
        if publisher is not self._publisher:
            return
        if unit.is_video:
            self._last_pts = unit.pts
            meter, now = self._meter, unit.arrival
            meter.untold.append((now, len(unit.payload)))  # as its ``add`` does it
            if now >= meter.tell_at:
                meter.look(now)
            if self._live is None:
                self._go_live(publisher)
        self._stream.publish(unit)
        self.rendition.source(unit)
        if self._live is not None:
            self._live.feed(unit)

    def _go_live(self, publisher: Publisher) -> None:
        assert publisher.session is not None
        self.moved(S.STARTING)
        self._live = Live(
            self,
            settings=self._settings,
            sellers=self._sellers,
            http=self._http,
            stream=self._stream,
            rendition=self.rendition,
            wish=replace(publisher.wish, params=publisher.params),
            teller=publisher.teller,
            audio=publisher.session.has_audio,
            search=publisher.search,
        )
        self._task = asyncio.create_task(self._live.run(), name=f"live {self.name}")
        self._task.add_done_callback(self._live_ended)

    def _live_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("stream %s: the live job broke", self.name, exc_info=error)
        if task is self._task:
            self.moved(S.FAILED, "internal", "the gateway failed; publish again")

    # --- what the live job tells (LiveHost) -------------------------------------------------

    def moved(self, state: StreamState, code: str = "", reason: str = "") -> None:
        self._states.to(state, code)
        if code != self._code:
            self._since = time.time() if code else None
        self._code, self._reason = code, reason

    def source_keyframe(self) -> None:
        if self._publisher is not None and self._publisher.session is not None:
            metrics.KEYFRAME_REQUESTS.labels("publisher").inc()
            self._publisher.session.request_keyframe()

    def cannot_serve(self, code: str, reason: str) -> None:
        publisher = self._publisher
        if publisher is not None and publisher.session is not None:
            publisher.teller.closed(reason)
            self._errands.begin(publisher.session.close(reason))
        self.moved(S.FAILED, code, reason)

    def _viewer_wants_keyframe(self) -> None:
        if self._live is not None:
            self._live.viewer_wants_keyframe()

    # --- viewers and operators ------------------------------------------------------------

    async def play(self, offer: str) -> ServedSession:
        self.joining += 1
        try:
            return await self._egress.answer(self._key, offer)
        finally:
            self.joining -= 1

    @property
    def taken(self) -> bool:
        """Somebody publishes, or soon will."""
        return self.has_publisher or self.publishing > 0

    @property
    def idle(self) -> bool:
        """Nobody publishes, watches, or is being answered."""
        return not (self.taken or self.joining or self.viewers)

    def announce(self, code: str, reason: str) -> None:
        """Tell everyone who looks at the status, whatever else happens."""
        self._notice = (code, reason)

    @property
    def viewers(self) -> int:
        return 0 if self._ended else self._egress.count(self._key)

    async def audience(self, limit: int, after: Callable[[str], bool]) -> list[ViewerStatistics]:
        """A page of the viewers; see ``Egresses.viewers``."""
        return [] if self._ended else await self._egress.viewers(self._key, limit, after)

    def update(self, body: bytes) -> dict[str, Any]:
        """Change parameters; before the first picture they are kept for the job to come."""
        if self._live is not None:
            return self._live.update(body)
        if self._publisher is None:
            raise NotFound(f"“{self.name}” is not live", code="stream_not_live")
        schema = self._sellers.schema(None, self._publisher.model)
        self._publisher.params = parameters.merge(schema, self._publisher.params, body)
        return self._publisher.params

    @property
    def model(self) -> str:
        """What runs, or is to."""
        if self._live is not None:
            return self._live.model
        return self._publisher.model if self._publisher is not None else ""

    def set_model(self, model: str, params: dict[str, Any]) -> None:
        if self._live is None:
            raise NotFound(f"“{self.name}” is not live", code="stream_not_live")
        self._live.set_model(model, params)

    async def stop_publisher(self, reason: str) -> None:
        publisher = self._publisher
        if publisher is not None and publisher.session is not None:
            publisher.teller.closed(reason)
            await publisher.session.close(reason)

    @property
    def _ended(self) -> bool:
        return self._states.state is S.ENDED

    async def close(self, reason: str, *, within: float = CLOSE_TIMEOUT) -> None:
        """End the path and everyone on it; waits until the job is gone.

        Args:
            within: seconds for other nodes to take the end; then it is cut short.
        """
        await self.stop_publisher(reason)
        self._leave_publisher()
        self.rendition.close()
        self.moved(S.ENDED, "ended", reason)
        await self._egress.close(self._key, reason)
        await self._errands.finish(within)

    # --- status ------------------------------------------------------------------------------

    def status(self) -> StreamStatus:
        now = time.monotonic()
        publisher, live = self._publisher, self._live
        code, reason = self._notice or (self._code, self._reason)
        return StreamStatus(
            name=self.name,
            stream_id=publisher.stream_id if publisher else "",
            request_id=publisher.request_id if publisher else "",
            model=self.model,
            state=self._states.state,
            reason=reason,
            reason_code=code,
            started=publisher.started if publisher else None,
            params=live.params if live else (publisher.params if publisher else {}),
            viewers=self.viewers,
            departure=self._departure,
            swaps=live.moves.count if live else 0,
            moves=live.moves.last if live else (),
            input=publisher.measure(self._meter, now, connected=live is not None)
            if publisher
            else None,
            output=self.rendition.status(now),
            serving=live.serving if live else None,
            runner=live.told.status if live else {},
            runner_error=live.told.error if live else None,
            reason_since=self._since,
            not_offered=publisher.wish.not_offered if publisher else (),
            warnings=(publisher.cautions(now) if publisher else ())
            + (live.cautions(now) if live else ()),
            reason_details=live.why_nobody[1] if live and live.why_nobody[0] == code else "",
        )

    def measure(self, now: float) -> None:
        """To be called now and then: what is measured of ingest becomes an event."""
        publisher = self._publisher
        if publisher is None or not publisher.teller.measure_due(now):
            return
        seen = publisher.measure(self._meter, now, connected=self._live is not None)
        if seen is not None:
            publisher.teller.measured(ingest_stats(seen, self.rendition.status(now)))
