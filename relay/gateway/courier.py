"""Carries events out: a bounded queue for each place they go to, and a few tries.

Whoever has an event never waits. What does not fit is dropped and counted: an outage of
a listener must not reach the media.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

import aiohttp
import orjson

from relay import metrics
from relay.config import Gateway
from relay.errors import RelayError
from relay.gateway.journal import Entry, envelope
from relay.rpc.event_topic import EventTopic, MakeProducer, producer
from relay.rpc.event_webhook import EventWebhook

log = logging.getLogger(__name__)

MAX_BATCH: Final = 100
MAX_BATCH_BYTES: Final = 512 << 10
MAX_WAIT: Final = 1.0
"""Seconds that an event waits for others to go along."""
MAX_QUEUED: Final = 1000
MAX_QUEUED_BYTES: Final = 8 << 20
MAX_EVENT: Final = 64 << 10
"""Bytes of one event: runners choose what they say, and how much."""
TRIES: Final = 3
PAUSE: Final = 0.5
"""Seconds before the second try, doubled before the third."""
FAREWELL: Final = 2.0
"""Seconds that the last events get when the gateway ends."""


class Sink(Protocol):
    """A place that takes events."""

    @property
    def name(self) -> str: ...

    async def send(self, batch: Sequence[tuple[str, bytes]]) -> None:
        """Hand over ids and JSON texts; at the latest after some seconds it is over.

        Raises:
            RelayError: they did not arrive, as far as is known.
        """

    async def close(self) -> None: ...


class Courier:
    """One sink and its queue."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._queue: deque[tuple[str, bytes]] = deque(maxlen=MAX_QUEUED)
        self._bytes = 0
        self._some = asyncio.Event()
        self._full = asyncio.Event()
        self._failing = ""

    def put(self, key: str, text: bytes) -> None:
        if len(self._queue) >= MAX_QUEUED or self._bytes + len(text) > MAX_QUEUED_BYTES:
            metrics.EVENTS.labels(self._sink.name, "dropped").inc()
            return
        self._queue.append((key, text))
        self._bytes += len(text)
        self._some.set()
        if len(self._queue) >= MAX_BATCH:
            self._full.set()

    async def run(self) -> None:
        """Send for as long as the gateway lives."""
        while True:
            await self._some.wait()
            try:
                async with asyncio.timeout(MAX_WAIT):
                    await self._full.wait()
            except TimeoutError:
                pass
            batch = self._take()
            try:
                await self._deliver(batch, TRIES)
            except asyncio.CancelledError:
                # Perhaps they arrived: a reader tells by the id.
                self._queue.extendleft(reversed(batch))
                raise

    async def close(self) -> None:
        """Send what is left, in bounded time."""
        try:
            async with asyncio.timeout(FAREWELL):
                while self._queue:
                    await self._deliver(self._take(), 1)
        except TimeoutError:
            log.warning("%s: %d events were not sent in time", self._sink.name, len(self._queue))
        await self._sink.close()

    def _take(self) -> list[tuple[str, bytes]]:
        batch: list[tuple[str, bytes]] = []
        size = 0
        while self._queue and len(batch) < MAX_BATCH:
            size += len(self._queue[0][1])
            if batch and size > MAX_BATCH_BYTES:
                break
            batch.append(self._queue.popleft())
            self._bytes -= len(batch[-1][1])
        if not self._queue:
            self._some.clear()
        if len(self._queue) < MAX_BATCH:
            self._full.clear()
        return batch

    async def _deliver(self, batch: list[tuple[str, bytes]], tries: int) -> None:
        result = "failed"
        for number in range(tries):
            if number:
                await asyncio.sleep(PAUSE * 2 ** (number - 1))
            try:
                await self._sink.send(batch)
            except RelayError as error:
                self._note(str(error), error.code)
            else:
                result = "sent"
                self._note("", "")
                break
        metrics.EVENTS.labels(self._sink.name, result).inc(len(batch))

    def _note(self, why: str, code: str) -> None:
        """Log an outage when it begins, changes its kind, and ends."""
        if code != self._failing:
            if code:
                log.warning("events do not reach the %s: %s", self._sink.name, why)
            else:
                log.info("events reach the %s again", self._sink.name)
        self._failing = code


class Mail:
    """All couriers. ``tell`` is what the gateway's parts call.

    Args:
        gateway: who says it, in each envelope.
    """

    def __init__(self, sinks: Sequence[Sink], gateway: str) -> None:
        self._couriers = [Courier(sink) for sink in sinks]
        self._gateway = gateway
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(courier.run(), name="events") for courier in self._couriers
        ]

    def tell(self, entry: Entry) -> None:
        """Never waits and never raises."""
        if not self._couriers:
            return
        key = str(uuid.uuid4())
        now_ms = int(time.time() * 1000)
        try:
            text = orjson.dumps(envelope(entry, key, now_ms=now_ms, gateway=self._gateway))
        except orjson.JSONEncodeError:
            text = b""
        if not 0 < len(text) <= MAX_EVENT:
            metrics.EVENTS.labels("any", "refused").inc()
            return
        for courier in self._couriers:
            courier.put(key, text)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(courier.close() for courier in self._couriers))


def kafka_of(settings: Gateway) -> MakeProducer | None:
    """How to make a client of the configured brokers; None without a topic.

    Raises:
        ConfigError: the client library is not installed.
    """
    kafka = settings.kafka
    return producer(kafka.servers, kafka.user, kafka.password) if kafka is not None else None


def mail_of(settings: Gateway, http: aiohttp.ClientSession, make: MakeProducer | None) -> Mail:
    """The couriers that the settings ask for."""
    sinks: list[Sink] = []
    if settings.events_webhook is not None:
        sinks.append(EventWebhook(http, settings.events_webhook, settings.events_secret))
    if settings.kafka is not None and make is not None:
        sinks.append(EventTopic(settings.kafka.topic, make))
    return Mail(sinks, settings.public_url or f"http://{settings.host}:{settings.port}")
