"""Events on their way to the events channel: bounded, one after the other, best effort."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final

from relay.errors import RelayError
from relay.protocols.trickle.publisher import TricklePublisher, send_whole
from relay.rpc.events import Event

log = logging.getLogger(__name__)

MAX_WAITING: Final = 32


class Outbox:
    """Keeps the newest events when the channel is slow.

    Args:
        publisher: of the events channel, or None when the job has none.
    """

    def __init__(self, publisher: TricklePublisher | None) -> None:
        self._publisher = publisher
        self._waiting: deque[Event] = deque(maxlen=MAX_WAITING)
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.lost = 0

    def put(self, event: Event) -> None:
        """Never blocks."""
        if self._publisher is None:
            return
        if len(self._waiting) == MAX_WAITING:
            self.lost += 1
        self._waiting.append(event)
        self._idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled. A failure loses an event, never a job."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting and self._publisher is not None:
                event = self._waiting.popleft()
                try:
                    await send_whole(self._publisher, event.serialise())
                except RelayError as error:
                    self.lost += 1
                    log.debug("an event did not get through: %s", error)
            self._idle.set()

    async def drained(self, timeout: float) -> None:
        """Wait until everything is sent, but no longer than ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            log.debug("%d events are left unsent", len(self._waiting))
