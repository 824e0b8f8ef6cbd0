"""The one thread in which pipelines live: loaded, called and closed in it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from relay.errors import RelayError
from relay.media.unit import AccessUnit
from relay.worker.ring import Ring
from relay.worker.transform import Transform

T = TypeVar("T")


class MediaThread:
    """Runs calls, and the frames of at most one job.

    Args:
        on_death: called in the loop when the thread ended by an error that nobody
            foresaw. The process is of no more use then.

    Attributes:
        ring: where the frames of the job go.
        busy_since: monotonic seconds at the start of the step that runs now, or None.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_death: Callable[[BaseException], None]
    ) -> None:
        self.ring = Ring()
        self.busy_since: float | None = None
        self._loop = loop
        self._on_death = on_death
        self._transform: Transform | None = None
        self._on_unit: Callable[[AccessUnit], None] = lambda unit: None
        self._thread = threading.Thread(target=self._run, name="media", daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Something that may hang begins now."""
        self.busy_since = time.monotonic()

    async def call(self, function: Callable[[], T]) -> T:
        """Run ``function`` in the thread, before the next frame.

        Raises:
            RelayError: what the function raised. Any other error ends the thread.
        """
        done: asyncio.Future[T] = self._loop.create_future()

        def settle(result: T | None, error: RelayError | None) -> None:
            if done.done():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]

        def command() -> None:
            try:
                result = function()
            except RelayError as error:
                self._post(settle, None, error)
            else:
                self._post(settle, result, None)

        self.ring.call(command)
        return await done

    async def begin(self, transform: Transform, on_unit: Callable[[AccessUnit], None]) -> None:
        """From now on frames go through ``transform``; what it makes is given to
        ``on_unit``, in the loop."""

        def command() -> None:
            self._transform, self._on_unit = transform, on_unit

        self.ring.clear()
        await self.call(command)

    async def end(self) -> None:
        """When this returns, no frame of the job is left here."""

        def command() -> None:
            self._transform = None

        await self.call(command)
        self.ring.clear()

    def close(self) -> None:
        self.ring.close()

    def _post(self, function: Callable[..., None], *args: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)

    def _run(self) -> None:
        try:
            while (work := self.ring.take()) is not None:
                commands, units = work
                self.step()
                for command in commands:
                    command()
                if units and self._transform is not None:
                    unit = self._transform.run(units)
                    if unit is not None:
                        self._post(self._on_unit, unit)
                self.busy_since = None
        except BaseException as error:
            self._post(self._on_death, error)
            raise
