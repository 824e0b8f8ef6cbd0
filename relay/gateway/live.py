"""Keeps one live stream served: finds an orchestrator, runs a session, moves on.

One task for each publisher. It ends only by being cancelled, or when the stream
itself cannot be served.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final, Protocol

import aiohttp

from relay import metrics
from relay.config import Gateway
from relay.errors import RelayError, Unavailable, Unprocessable
from relay.gateway import params as parameters
from relay.gateway.dispatcher import retry_delay
from relay.gateway.drops import Drops
from relay.gateway.errands import Errands
from relay.gateway.moves import Moves
from relay.gateway.publisher import Wish
from relay.gateway.rendition import Rendition
from relay.gateway.search import Search
from relay.gateway.sellers import BAD_REQUEST, BLAMELESS, Sellers, Started, words
from relay.gateway.session import Ending, OrchestratorSession
from relay.gateway.status import Caution, Serving, StreamState
from relay.gateway.teller import Teller
from relay.gateway.told import Told
from relay.gateway.trial import TAKEN_BACK, Trial
from relay.gateway.watch import Watch
from relay.market.selector import Choice
from relay.media.stream import Stream
from relay.media.unit import AccessUnit
from relay.rpc.events import Event

log = logging.getLogger(__name__)

ASK_AGAIN: Final = 0.5
"""Seconds between two requests for the key frame with which a session can go on."""
MODEL_CHANGED: Final = "model_changed"
"""The one ending that is no fault of the orchestrator."""
BROKE: Final = "internal"
"""A fault of our own, with its traceback in the log."""
SHORT: Final = 1.0
"""Seconds under which a session's end is followed by a pause, whatever it brought."""
PATIENCE: Final = 5.0
"""Seconds without anybody to serve the stream until that is called a failure."""
STALE_GROUP: Final = 1.0
"""Seconds of kept pictures from which a fresh key frame is asked for as well."""


class LiveHost(Protocol):
    """What a live job needs of its path."""

    def moved(self, state: StreamState, code: str = "", reason: str = "") -> None: ...

    def source_keyframe(self) -> None: ...

    def cannot_serve(self, code: str, reason: str) -> None: ...


class Live:
    """The live job of one publisher.

    Args:
        wish: what to run, at first, and whose job it is.
        audio: the publisher sends Opus.
        search: who could serve it, asked already.
    """

    def __init__(
        self,
        host: LiveHost,
        *,
        settings: Gateway,
        sellers: Sellers,
        http: aiohttp.ClientSession,
        stream: Stream,
        rendition: Rendition,
        wish: Wish,
        teller: Teller,
        audio: bool,
        search: Search | None,
    ) -> None:
        self._host = host
        self._sellers = sellers
        self._http = http
        self._stream = stream
        self._rendition = rendition
        self._wish = wish
        self._teller = teller
        self._audio = audio
        self._search = search
        self.model = wish.model
        self._trial = Trial(wish.params)
        self.moves = Moves()
        self.serving: Serving | None = None
        self.why_nobody = ("", "")
        """The code of the last search that found nobody, and what only operators are told."""
        self._session: OrchestratorSession | None = None
        self._had_output = False
        self._lost_at: float | None = None
        self._searching_since = time.monotonic()
        self._failures = 0
        self._failing = False
        self._refused: set[str] = set()
        self._watch = Watch(settings, rendition, teller, self._starved)
        self._asked = 0.0
        self._drops = Drops()
        self._errands = errands = Errands(f"stream {wish.stream_id}")
        self.told = Told(wish.stream_id, sellers, teller, errands.begin, lambda: errands.idle)

    # --- what the path calls --------------------------------------------------------

    @property
    def params(self) -> dict[str, Any]:
        """What a worker is to run with now."""
        return self._trial.now.params

    def cautions(self, now: float) -> tuple[Caution, ...]:
        """What may be wrong, though the stream is served."""
        seen = self._rendition.compare.warnings(now) if self._session is not None else ()
        return self._trial.cautions + seen + self._drops.cautions(now)

    def feed(self, unit: AccessUnit) -> None:
        if unit.keyframe:
            self._watch.last_keyframe = unit.arrival
        if self._session is not None:
            self._session.feed(unit, unit.arrival)

    def viewer_wants_keyframe(self) -> None:
        """A viewer cannot go on without a key frame."""
        session = self._session
        if session is None:
            return
        if session.request_keyframe():
            metrics.KEYFRAME_REQUESTS.labels("worker").inc()
        else:
            self._host.source_keyframe()

    def update(self, body: bytes) -> dict[str, Any]:
        """Change parameters; they show within a few frames.

        Returns:
            All parameters, as they are now.

        Raises:
            BadInput, TooLarge, Unprocessable: nothing was changed.
        """
        schema = self._sellers.schema(self.told.transcoder, self.model)
        merged = parameters.merge(schema, self.params, body)
        if self._session is not None:
            if not self._session.control(body):
                raise Unavailable(
                    "the worker does not keep up", code="control_backlog", retry_after=1
                )
            self._teller.params(parameters.read(body))
        self._trial.change(merged, body)
        metrics.PARAMETER_UPDATES.inc()
        return merged

    def set_model(self, model: str, params: dict[str, Any]) -> None:
        if not self._sellers.offers(model):
            raise Unprocessable(f"no orchestrator offers “{model}”", code="unknown_model")
        schema = self._sellers.schema(None, model)
        parameters.check(schema.schema if schema else None, params)
        self.model, self._trial, self.told.transcoder = model, Trial(params), None
        if self._session is not None:
            self._session.end(self._model_changed())

    # --- the loop --------------------------------------------------------------------

    async def run(self) -> None:
        try:
            while True:
                try:
                    started = await self._start()
                except Exception:  # BLE001: logged; as in ``_serve``
                    log.exception("stream %s: the search broke", self._wish.stream_id)
                    self._not_found(BROKE, "the gateway failed")
                    started = None
                if started is None:
                    self._failures += 1
                    await asyncio.sleep(retry_delay(self._failures))
                    continue
                began = time.monotonic()
                ending = await self._serve(started)
                if ending is None:
                    return
                if self._lost(started, ending, began):
                    self._failures += 1
                    await asyncio.sleep(retry_delay(self._failures))
        finally:
            self._session = None
            self._rendition.interrupt()
            self._watch.close()
            self.told.close()
            await self._errands.finish()

    def _lost(self, started: Started, ending: Ending, began: float) -> bool:
        """A session ended; whether to pause before the next one."""
        self._searching_since = time.monotonic()
        if self._had_output:
            self._lost_at = self._searching_since
        metrics.JOB_SWAPS.labels(ending.code).inc()
        ours = ending.code == MODEL_CHANGED
        if not ours:
            self._sellers.fail(started.choice.offer.url)
            why, seen = self.told.cause(ending.words), self._rendition.last_output
            self.moves.leave(started.choice.offer, ending.code, why, time.time(), seen)
            self._teller.swapped(started.choice.offer, ending.words)
            self._params_failed()
        words = ending.words if ours else f"switching worker: {ending.words}"
        self._host.moved(self._phase(), ending.code, words)
        return not ours and not (self._had_output and self._searching_since - began >= SHORT)

    def _params_failed(self) -> None:
        """A worker did not live with the parameters, whosever fault that is."""
        if self._trial.died():
            log.warning("%s: %s", self._wish.stream_id, TAKEN_BACK.words)
            self._teller.failed(TAKEN_BACK.words)

    def _phase(self) -> StreamState:
        """Where a stream stands that somebody serves, or soon will."""
        if self._session is not None and self._had_output:
            return StreamState.LIVE
        return StreamState.STARTING if self._lost_at is None else StreamState.SWITCHING

    def _model_changed(self) -> Ending:
        return Ending(MODEL_CHANGED, f"the model is now {self.model}")

    async def _start(self) -> Started | None:
        """A job at the best orchestrator that takes it, or None when nobody does."""
        try:
            choices = await self._choices()
        except Unavailable as error:
            self._teller.nobody()
            self._not_found(error.code, words(error), error.details)
            return None
        refusal: RelayError | None = None
        for choice in choices:
            if choice.offer.model != self.model:
                return None
            try:
                started = await self._sellers.start(
                    choice,
                    params=self.params,
                    request_id=self._wish.request_id,
                    stream_id=self._wish.stream_id,
                )
            except RelayError as error:
                log.info("%s refused: %s", choice.offer.url, error)
                metrics.JOB_FAILURES.labels(error.code).inc()
                refusal = refusal or error
                self._refused.add(choice.offer.url)
                if error.code not in BLAMELESS:
                    self._sellers.fail(choice.offer.url)
                elif error.code == BAD_REQUEST:
                    self._params_failed()
            else:
                self._refused.clear()
                return started
        if refusal is not None:
            self._not_found(refusal.code, words(refusal))
        return None

    async def _choices(self) -> list[Choice]:
        search, self._search = self._search, None
        if search is not None and search.new:
            return await search.found()
        return await self._sellers.choices(self.model, self._refused, only=self._wish.orchestrator)

    def _not_found(self, code: str, text: str, details: str = "") -> None:
        """Nobody serves the stream now: for a moment that is part of finding somebody."""
        self.why_nobody = (code, details)
        if time.monotonic() - self._searching_since > PATIENCE:
            self._failing = True
            self._host.moved(StreamState.FAILED, code, f"{text}; trying again")
        elif self._lost_at is not None:
            self._host.moved(StreamState.SWITCHING, code, f"switching worker: {text}")
        else:
            self._host.moved(StreamState.STARTING, code, f"{text}; trying again")

    async def _serve(self, started: Started) -> Ending | None:
        """Run one session; None when the stream itself cannot be served."""
        session = OrchestratorSession(
            self._http, started.answer, self, trust=started.trust, audio=self._audio
        )
        self._had_output = False
        try:
            await session.open()
            if started.choice.offer.model != self.model:
                return self._model_changed()
            self._begin(session, started)
            judging = asyncio.create_task(self._watch.over(session))
            try:
                return await self._until_end(session, judging)
            finally:
                judging.cancel()
                await asyncio.gather(judging, return_exceptions=True)
        except RelayError as error:
            return Ending("open_failed", f"its channels could not be opened: {error}")
        except Exception:  # BLE001: logged; whatever broke in one job, another is begun
            log.exception("stream %s: a job broke", self._wish.stream_id)
            return Ending(BROKE, "the gateway failed in it")
        finally:
            # First of all: whatever else fails, the orchestrator learns of the end.
            self._errands.begin(session.close())
            self._session = None
            self.serving = None
            self._rendition.interrupt()

    async def _until_end(
        self, session: OrchestratorSession, judging: asyncio.Task[Ending]
    ) -> Ending | None:
        running = asyncio.create_task(session.run())
        try:
            await asyncio.wait((running, judging), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return running.result()
            ending = judging.result()
            if ending.code == "no_keyframe":
                self._host.cannot_serve(ending.code, ending.words)
                return None
            return ending
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def _begin(self, session: OrchestratorSession, started: Started) -> None:
        """From here on the session is fed; it gets the kept group of pictures first."""
        offer = started.choice.offer
        self.told.begin(offer.transcoder, started.trust)
        self._teller.served(offer)
        self.moves.arrive(offer)
        self.serving = Serving.of(offer, time.time(), started.choice.why, started.connect_ms)
        metrics.JOB_CONNECT.observe(started.connect_ms / 1000)
        now = time.monotonic()
        group = self._stream.group()
        self._rendition.begin(group[0].pts if group else None)
        for unit in group:
            session.feed(unit, now)
        self._session = session
        if not group or now - group[0].arrival > STALE_GROUP:
            self._host.source_keyframe()
        if self.params is not started.params:
            session.control(parameters.dump(self.params))
        update = self._trial.now.update
        if update is not None and self._sellers.schema(offer.transcoder, self.model) is None:
            session.control(update)
        if self._failing:
            self._failing = False
            self._host.moved(self._phase())

    def _starved(self, text: str) -> None:
        self._host.moved(self._phase(), "no_keyframe" if text else "", text)

    # --- what a session tells -----------------------------------------------------------

    def output(self, unit: AccessUnit) -> bool:
        sent = self._rendition.output(unit)
        if sent and unit.is_video and self._had_output and self._trial.settled:
            return True  # most pictures
        if sent and unit.is_video:
            self._trial.picture(unit.arrival)
        if sent and unit.is_video and not self._had_output:
            self._had_output = True
            self._failures = 0
            if self._lost_at is not None:
                metrics.JOB_GAP.observe(unit.arrival - self._lost_at)
                self._lost_at = None
            self.moves.shown(unit.arrival)
            self._host.moved(StreamState.LIVE)
        elif self._rendition.stuck and unit.arrival - self._asked > ASK_AGAIN:
            # It began with pictures that viewers have seen: the kept group.
            self._asked = unit.arrival
            self.viewer_wants_keyframe()
        return sent

    def event(self, event: Event) -> None:
        self.told.hear(event, self.model)

    def keyframe_needed(self) -> None:
        self._host.source_keyframe()

    def dropped(self, pictures: int, why: str) -> None:
        metrics.PICTURES_DROPPED.inc(pictures)
        self._teller.failed(self._drops.input(pictures, why, time.monotonic()))

    def output_left(self) -> None:
        metrics.SEGMENTS_LEFT.inc()
        self._drops.output(time.monotonic())
