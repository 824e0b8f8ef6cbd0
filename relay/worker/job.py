"""One job in the child: its four channels, and what goes between them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from relay.errors import BadInput, ChannelClosed, RelayError, TooLarge
from relay.media.mpegts import Demuxer
from relay.media.segmenter import MAX_AGE
from relay.media.unit import AccessUnit
from relay.protocols.trickle.client import open_session
from relay.protocols.trickle.paths import CURRENT
from relay.protocols.trickle.publisher import TricklePublisher
from relay.protocols.trickle.reading import SegmentReader
from relay.protocols.trickle.subscriber import TrickleSubscriber
from relay.rpc.connector import GuardedConnector
from relay.rpc.events import EXTENSION_KEYFRAME, Event
from relay.rpc.runner import RunnerStart
from relay.rpc.trickle_token import token_header
from relay.rpc.trust import JobTrust
from relay.worker.codec import Encoder
from relay.worker.control import Change, KeyframeWanted, parse_control
from relay.worker.loader import LoadedPipeline
from relay.worker.outbox import Outbox
from relay.worker.output import Output
from relay.worker.parameters import MAX_MESSAGE
from relay.worker.status import JobStatus
from relay.worker.thread import MediaThread
from relay.worker.transform import Transform

log = logging.getLogger(__name__)

MAX_IDLE: Final = 60.0
"""Seconds without a frame of input until the job ends."""

MAX_FAILING: Final = 10.0
"""Seconds in which the pipeline raised on every frame until the job has failed."""

STATUS_INTERVAL: Final = 10.0
STATUS_EARLY: Final = (0.0, 1.0, 3.0)
"""Gateways subscribe late, and read from "next": the first status is told again."""

TICK: Final = 0.5
LAST_WORDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class JobSettings:
    bitrate: int
    keyframe_interval: float


@dataclass(frozen=True, slots=True)
class JobEnd:
    """Why a job is over, and whether anyone wanted it to be."""

    reason: str
    failed: bool = False


class Job:
    """
    Args:
        start: what was asked for.
        pipeline: loaded, and begun with the job's parameters.
        media: the thread that frames go to.
        trust: what the job's channels are held to.
    """

    def __init__(
        self,
        start: RunnerStart,
        pipeline: LoadedPipeline,
        media: MediaThread,
        settings: JobSettings,
        trust: JobTrust,
    ) -> None:
        self._start = start
        self._headers = token_header(start.trickle_token)
        self._pipeline = pipeline
        self._media = media
        self._trust = trust
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[JobEnd] = self._loop.create_future()
        self._demuxer = Demuxer()
        self._frames_in = 0
        self._frames_out = 0
        self._last_input = time.monotonic()
        self._wanted = pipeline.parameters.values
        self._change = asyncio.Event()
        self._status = JobStatus(
            pipeline.model_id,
            pipeline.version,
            () if pipeline.untouched else (EXTENSION_KEYFRAME,),
            now=time.monotonic(),
            wall=time.time(),
        )
        self._status.params(pipeline.parameters.values, time.monotonic())
        self._transform = Transform(
            pipeline,
            Encoder(settings.bitrate, settings.keyframe_interval),
            on_error=self._error_in_thread,
            on_step=media.step,
            clock=time.monotonic,
        )

    def end(self, reason: str, *, failed: bool = False) -> None:
        """End the job; the first reason counts."""
        if not self._ended.done():
            self._ended.set_result(JobEnd(reason, failed))

    async def run(self) -> JobEnd:
        """Run until something ends it; then its output and events channels are deleted."""
        async with open_session(GuardedConnector) as session:
            self._session = session
            self._out = self._publisher(self._start.publish_url, "video/MP2T", MAX_AGE)
            self._out.on_failure = lambda error: self._channel_failed("output", error)
            events = None
            if self._start.events_url:
                events = self._publisher(self._start.events_url, "application/json")
            self._outbox = Outbox(events)
            self._output = Output(self._out, self._transform.request_keyframe)
            self._media.begin(self._transform, self._sent)
            try:
                end = await self._work()
            finally:
                await self._media.end()
                self._output.end()
                async with asyncio.TaskGroup() as closing:
                    closing.create_task(self._out.close())
                    if events is not None:
                        closing.create_task(events.close())
        return end

    async def _work(self) -> JobEnd:
        self._outbox.put(self._status.trace("runner_receive_stream_request", time.monotonic()))
        async with asyncio.TaskGroup() as group:
            connecting = group.create_task(self._connect())
            works = [self._read_input, self._watch, self._apply_changes]
            later = [self._outbox.run, self._tell_status]
            if self._start.control_url:
                later.append(self._read_control)
            tasks = [connecting, *(group.create_task(work()) for work in works)]
            tasks += [group.create_task(self._after(connecting, work)) for work in later]
            end = await self._ended
            if end.failed:
                event = Event.error(self._pipeline.model_id, end.reason, time=_milliseconds())
                self._outbox.put(event)
            await self._outbox.drained(LAST_WORDS)
            for task in tasks:
                task.cancel()
        return end

    # The four channels.

    async def _connect(self) -> None:
        """Have the first segment's POST open before there is anything to send."""
        try:
            await self._out.open()
        except RelayError as error:
            self._channel_failed("output", error)

    async def _after(
        self, connecting: asyncio.Task[None], work: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Work that calls the orchestrator too, and that no picture waits for."""
        await asyncio.wait((connecting,))
        await work()

    async def _read_input(self) -> None:
        subscriber = self._subscriber(self._start.subscribe_url, CURRENT, max_behind=MAX_AGE)
        try:
            async for segment in subscriber:
                if self._pipeline.untouched:
                    await self._echo(segment)
                else:
                    await self._read_segment(segment)
        except RelayError as error:
            self._channel_failed("input", error)
        finally:
            await subscriber.close()
        self.end("the input channel was closed")

    async def _read_segment(self, segment: SegmentReader) -> None:
        def take(chunk: bytes) -> None:
            now = time.monotonic()
            for unit in self._demuxer.feed(chunk, now):
                self._received(unit, now)

        await segment.pour(take)
        now = time.monotonic()
        for unit in self._demuxer.flush(now):
            self._received(unit, now)

    async def _echo(self, segment: SegmentReader) -> None:
        """Hand the bytes on as they come; what is in them is only counted, and afterwards."""
        try:
            writer = self._out.begin()
        except RelayError as error:
            self._channel_failed("output", error)
            return

        def take(chunk: bytes) -> None:
            now = time.monotonic()
            writer.write(chunk)
            for unit in self._demuxer.feed(chunk, now):
                self._seen(unit, now)
                self._frames_out += unit.is_video

        await segment.pour(take)
        if segment.truncated:
            writer.abort()
        else:
            writer.end()

    async def _read_control(self) -> None:
        # Messages may be lost to a burst, never the last one: it has all parameters.
        subscriber = self._subscriber(self._start.control_url, 0, keep_newest=True)
        try:
            async for segment in subscriber:
                try:
                    self._command(await segment.read(MAX_MESSAGE))
                except (BadInput, TooLarge) as error:
                    self._error(f"a control message was refused: {error}")
        except RelayError as error:
            self._channel_failed("control", error)
        finally:
            await subscriber.close()
        self.end("the control channel was closed")

    async def _tell_status(self) -> None:
        told = 0.0
        for at in STATUS_EARLY:
            await asyncio.sleep(at - told)
            told = at
            self._outbox.put(self._status.event(time.monotonic()))
        while True:
            await asyncio.sleep(STATUS_INTERVAL)
            self._outbox.put(self._status.event(time.monotonic()))

    # Frames.

    def _seen(self, unit: AccessUnit, now: float) -> None:
        if not unit.is_video:
            return
        if self._frames_in == 0:
            self._outbox.put(self._status.trace("runner_receive_first_ingest_segment", now))
        self._frames_in += 1
        self._last_input = now

    def _received(self, unit: AccessUnit, now: float) -> None:
        self._seen(unit, now)
        if unit.is_video:
            self._media.ring.put(unit)
        else:
            self._send(unit, now)

    def _sent(self, unit: AccessUnit) -> None:
        """A picture comes out of the media thread."""
        now = time.monotonic()
        if self._frames_out == 0:
            self._outbox.put(self._status.trace("runner_send_first_processed_segment", now))
        self._frames_out += 1
        self._send(unit, now)

    def _send(self, unit: AccessUnit, now: float) -> None:
        if self._demuxer.has_audio:
            self._output.has_audio()
        try:
            self._output.push(unit, now)
        except RelayError as error:
            self._channel_failed("output", error)

    # Parameters.

    def _command(self, data: bytes) -> None:
        """
        Raises:
            BadInput: not a message, or parameters that the schema refuses.
        """
        message = parse_control(data)
        if isinstance(message, KeyframeWanted):
            self._transform.request_keyframe()
        elif isinstance(message, Change):
            self._wanted = self._pipeline.parameters.merged(message.params, onto=self._wanted)
            self._change.set()

    async def _apply_changes(self) -> None:
        """Put the newest parameters in force; those that a newer change overtook never are."""
        while True:
            await self._change.wait()
            self._change.clear()
            values = self._wanted
            try:
                await self._media.call(partial(self._pipeline.update, values))
            except RelayError as error:
                self._error(f"the parameters were refused: {error}")
                if self._wanted is values:
                    self._wanted = self._pipeline.parameters.values
                continue
            now = time.monotonic()
            self._pipeline.parameters.put(values)
            self._status.params(values, now)
            self._outbox.put(self._status.event(now))

    # What may go wrong.

    async def _watch(self) -> None:
        counts = self._transform.counts
        while True:
            now = time.monotonic()
            if self._status.saw(self._frames_in, self._frames_out, now):
                self._outbox.put(self._status.event(now))
            if now - self._last_input > MAX_IDLE:
                self.end(f"no input for {MAX_IDLE:.0f} s")
            since = counts.failing_since
            if since is not None and now - since > MAX_FAILING:
                self.end(f"the pipeline failed for {MAX_FAILING:.0f} s on end", failed=True)
            await asyncio.sleep(TICK)

    def _error_in_thread(self, reason: str) -> None:
        self._loop.call_soon_threadsafe(self._error, reason)

    def _error(self, reason: str) -> None:
        log.debug("the job has an error: %s", reason)
        event = self._status.error(reason, time.monotonic())
        if event is not None:
            self._outbox.put(event)

    def _channel_failed(self, channel: str, error: RelayError) -> None:
        closed = isinstance(error, ChannelClosed)
        reason = "was closed" if closed else f"failed: {error}"
        self.end(f"the {channel} channel {reason}", failed=not closed)

    def _publisher(self, url: str, mime: str, max_age: float | None = None) -> TricklePublisher:
        return TricklePublisher(
            self._session,
            url,
            mime=mime,
            ssl=self._trust.guard(url).ssl,
            headers=self._headers,
            max_age=max_age,
        )

    def _subscriber(
        self, url: str, start: int, *, keep_newest: bool = False, max_behind: float | None = None
    ) -> TrickleSubscriber:
        return TrickleSubscriber(
            self._session,
            url,
            start=start,
            ssl=self._trust.guard(url).ssl,
            headers=self._headers,
            keep_newest=keep_newest,
            max_behind=max_behind,
        )


def _milliseconds() -> int:
    return round(time.time() * 1000)
