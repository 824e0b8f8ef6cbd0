"""Our dealings with one orchestrator for one live stream: four channels, one ending.

``feed`` and ``control`` never wait: they hand bytes to bounded writers. ``run``
lives as long as the session and returns why it ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Protocol

import aiohttp

from relay.errors import BadInput, ChannelClosed, PeerError, RelayError
from relay.gateway.dispatcher import INPUT_FLOWS, Observation
from relay.media.mpegts import Demuxer
from relay.media.segmenter import MAX_AGE, Cut, Segmenter
from relay.media.unit import AccessUnit
from relay.protocols.trickle.publisher import TricklePublisher, send_whole
from relay.protocols.trickle.subscriber import TrickleSubscriber
from relay.protocols.trickle.upload import TOO_SLOW, SegmentWriter
from relay.rpc.events import (
    EXTENSION_KEYFRAME,
    KEEPALIVE_MESSAGE,
    KEYFRAME_MESSAGE,
    MAX_EVENT,
    Event,
)
from relay.rpc.live_job import LiveJobAnswer
from relay.rpc.reach import REFUSED
from relay.rpc.trickle_token import token_header
from relay.rpc.trust import UNTRUSTED, JobTrust

log = logging.getLogger(__name__)

KEEPALIVE: Final = 10.0
MEDIA_FIRST: Final = 0.05
"""Seconds that input and output have to connect, before the channels that no picture waits for."""
MAX_CONTROLS: Final = 64
CLOSE_TIMEOUT: Final = 5.0
SLOW_READER: Final = "the orchestrator reads too slowly"

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a session ended, in a stable code and in words."""

    code: str
    words: str


class SessionSink(Protocol):
    """Who hears what comes back."""

    def output(self, unit: AccessUnit) -> bool:
        """Whether it could be sent on."""

    def event(self, event: Event) -> None: ...

    def keyframe_needed(self) -> None: ...

    def dropped(self, pictures: int, why: str) -> None:
        """Input was left out, up to the key frame that has just been sent."""

    def output_left(self) -> None:
        """The rest of an output segment was left: it came too slowly."""


class OrchestratorSession:
    """One accepted job.

    Args:
        http: the gateway's client session.
        answer: the four channels.
        trust: what the channels are held to.
        audio: the input carries Opus.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        answer: LiveJobAnswer,
        sink: SessionSink,
        *,
        trust: JobTrust,
        audio: bool,
    ) -> None:
        # Not the manifest id: who knows it may read, write and delete the channels.
        self.name = f"session {next(_numbers)}"
        self._sink = sink
        self._audio = audio
        self._segmenter = Segmenter(audio=audio)
        publish, subscribe, control, events = (trust.guard(url) for url in answer.urls)
        headers = token_header(answer.trickle_token)
        self._input = TricklePublisher(
            http, answer.publish_url, ssl=publish.ssl, headers=headers, max_age=MAX_AGE
        )
        self._control = TricklePublisher(http, answer.control_url, ssl=control.ssl, headers=headers)
        # From the first segment on: who opens the next one ahead, as runners do, would
        # otherwise have its first pictures lost whenever it is quicker than this reader.
        self._output = TrickleSubscriber(
            http,
            answer.subscribe_url,
            start=0,
            ssl=subscribe.ssl,
            headers=headers,
            max_behind=MAX_AGE,
        )
        # Events too: a worker tells at once what it can do.
        self._events = TrickleSubscriber(
            http,
            answer.events_url,
            start=0,
            ssl=events.ssl,
            headers=headers,
            max_segment=MAX_EVENT,
        )
        self._writer: SegmentWriter | None = None
        self._controls: asyncio.Queue[bytes] = asyncio.Queue(MAX_CONTROLS)
        self._ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._opened = time.monotonic()
        self._input_since: float | None = None
        self._last_input: float | None = None
        self._last_output: float | None = None
        self._last_event: float | None = None
        self._loading = False
        self._loaded: float | None = None
        self.segments = 0
        """Whole output segments that came."""
        self.can_keyframe = False
        """The worker announced that it makes a key frame on request."""
        self._dropped = 0
        self._why_dropped = ""
        self._input.on_lost = self._segment_lost
        self._input.on_failure = lambda error: self.end(_ending("input", error))
        self._control.on_failure = lambda error: self.end(_ending("control", error))

    # --- towards the orchestrator ---------------------------------------------

    async def open(self) -> None:
        """Connect the input, so that nothing waits when media comes."""
        await self._input.open()

    def feed(self, unit: AccessUnit, now: float) -> None:
        segmenter, is_video = self._segmenter, unit.is_video
        steps = segmenter.push(unit, now)
        if not steps and self._why_dropped:
            self._dropped += is_video
        for step in steps:
            if isinstance(step, Cut):
                if not self._begin_segment():
                    return
                continue
            writer = self._writer
            if writer is not None and not writer.write(step, is_video):
                self._dropped += is_video
                if writer is self._writer:  # else it was told
                    self._give_up_segment("its connection is gone")
                return
            if is_video:
                last = self._last_input
                # A picture went out: before its first key frame a session owes nothing.
                if last is None or now - last > INPUT_FLOWS:
                    self._input_since = now
                self._last_input = now
        if now >= segmenter.asks_at and segmenter.keyframe_due(now):
            self._sink.keyframe_needed()

    def _begin_segment(self) -> bool:
        if self._writer is not None:
            self._writer.end()
        try:
            self._writer = self._input.begin()
        except RelayError as error:
            self.end(_ending("input", error))
            return False
        self._tell_dropped()
        return True

    def _segment_lost(self, writer: SegmentWriter) -> None:
        slow = writer.error is not None and writer.error.code == TOO_SLOW
        why = SLOW_READER if slow else "its connection was lost"
        self._dropped += writer.dropped
        if writer is self._writer:
            self._give_up_segment(why)
        elif writer.dropped:
            # The end of a segment, while the next one is under way.
            self._why_dropped = self._why_dropped or why
            if self._writer is not None:
                self._tell_dropped()

    def _give_up_segment(self, why: str) -> None:
        """The peer does not take the input: drop to the next key frame."""
        log.warning("%s: %s, dropping to the next key frame", self.name, why)
        self._writer = None
        self._why_dropped = why
        self._segmenter.give_up(time.monotonic())
        self._sink.keyframe_needed()

    def _tell_dropped(self) -> None:
        if self._why_dropped:
            self._sink.dropped(self._dropped, self._why_dropped)
        self._dropped, self._why_dropped = 0, ""

    def control(self, body: bytes) -> bool:
        """Send one control message; False when too many already wait."""
        try:
            self._controls.put_nowait(body)
        except asyncio.QueueFull:
            return False
        return True

    def request_keyframe(self) -> bool:
        """Ask the worker for a key frame; False when it never said that it understands."""
        return self.can_keyframe and self.control(KEYFRAME_MESSAGE)

    # --- what is seen of it -----------------------------------------------------

    @property
    def last_output(self) -> float | None:
        return self._last_output

    def observe(
        self, *, starved: float, late_since: float | None = None, stood_still: float = 0.0
    ) -> Observation:
        """
        Args:
            starved: seconds since the publisher's last key frame.
            late_since: since when the output is too old, as the rendition finds.
            stood_still: seconds since the last output in which our own loop did nothing.
        """
        return Observation(
            opened=self._opened,
            input_since=self._input_since,
            last_input=self._last_input,
            last_output=self._last_output,
            last_event=self._last_event,
            in_flight=self._input.in_flight,
            starved=starved,
            loading=self._loading,
            loaded=self._loaded,
            late_since=late_since,
            stood_still=stood_still,
        )

    def end(self, ending: Ending) -> None:
        """End the session from outside; the first ending is the one that counts."""
        if not self._ended.done():
            self._ended.set_result(ending)

    async def run(self) -> Ending:
        """Read output and events, keep control alive; returns when any of it ends."""
        tasks = [
            asyncio.create_task(self._read("output", self._read_output)),
            asyncio.create_task(self._read("events", self._read_events)),
            asyncio.create_task(self._read("control", self._send_controls)),
        ]
        try:
            done, _ = await asyncio.wait((*tasks, self._ended), return_when=asyncio.FIRST_COMPLETED)
            if not self._ended.done():
                self.end(next(iter(done)).result())
            return self._ended.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Delete control and input: that is how the orchestrator learns of the end."""
        if self._writer is not None:
            self._writer.end()
            self._writer = None
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await asyncio.gather(
                    self._control.close(),
                    self._input.close(),
                    self._output.close(),
                    self._events.close(),
                )
        except (TimeoutError, RelayError) as error:
            log.info("%s: closing the channels: %s", self.name, error or "timed out")
        # Nothing comes of them any more, and nothing holds us.
        self._input.on_lost = self._input.on_failure = self._control.on_failure = None

    # --- readers ------------------------------------------------------------------

    async def _read(self, channel: str, reader: Callable[[], Any]) -> Ending:
        try:
            await reader()
        except RelayError as error:
            return _ending(channel, error)
        return Ending(f"{channel}_closed", f"the orchestrator closed the {channel} channel")

    async def _read_output(self) -> None:
        demuxer = Demuxer()
        output = self._sink.output
        left = 0

        def take(data: bytes) -> None:
            now = time.monotonic()
            for unit in demuxer.feed(data, now) if data else demuxer.flush(now):
                if output(unit) and unit.is_video:
                    self._last_output = now

        async for segment in self._output:
            await segment.pour(take)
            take(b"")  # its end
            self.segments += 1
            if self._output.left > left:
                left = self._output.left
                self._sink.output_left()

    async def _read_events(self) -> None:
        await asyncio.sleep(MEDIA_FIRST)
        async for segment in self._events:
            try:
                event = Event.parse(await segment.read(MAX_EVENT))
            except BadInput:
                continue
            except PeerError as error:
                if error.code != "segment_too_large":
                    raise
                continue
            now = self._last_event = time.monotonic()
            if (status := event.status()) is not None:
                was_loading, self._loading = self._loading, status.state == "LOADING"
                if was_loading and not self._loading and self._loaded is None:
                    self._loaded = now
                self.can_keyframe = EXTENSION_KEYFRAME in status.extensions
            self._sink.event(event)

    async def _send_controls(self) -> None:
        await asyncio.sleep(MEDIA_FIRST)
        await self._control.open()
        while True:
            try:
                async with asyncio.timeout(KEEPALIVE):
                    body = await self._controls.get()
            except TimeoutError:
                body = KEEPALIVE_MESSAGE
            await send_whole(self._control, body)


def _ending(channel: str, error: RelayError) -> Ending:
    if isinstance(error, ChannelClosed):
        return Ending(f"{channel}_closed", f"the orchestrator closed the {channel} channel")
    if error.code == TOO_SLOW and channel == "input":
        return Ending("slow_input", f"{SLOW_READER}: {error}")
    code = error.code if error.code in (UNTRUSTED, REFUSED) else f"{channel}_failed"
    return Ending(code, f"the {channel} channel failed: {error}")
