"""The one thread in which pipelines live: loaded, called and closed in it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from relay.errors import RelayError
from relay.media.unit import AccessUnit
from relay.worker.ring import Ring
from relay.worker.transform import Transform

T = TypeVar("T")

PAIR: Final = 2


def _settle(done: asyncio.Future[Any], result: object, error: RelayError | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)


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
        self._at_end: Callable[[], None] | None = None
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

        def command() -> None:
            try:
                result = function()
            except RelayError as error:
                self._post(_settle, done, None, error)
            else:
                self._post(_settle, done, result, None)

        self.ring.call(command)
        return await done

    def begin(self, transform: Transform, on_unit: Callable[[AccessUnit], None]) -> None:
        """Frames that come from now on go through ``transform``; what it makes is given to
        ``on_unit``, in the loop."""

        def command() -> None:
            self._transform, self._on_unit = transform, on_unit

        self.ring.clear()
        self.ring.call(command)

    async def end(self) -> None:
        """When this returns, all frames of the job have gone through, and it is forgotten."""
        done: asyncio.Future[None] = self._loop.create_future()

        def finish() -> None:
            self._transform, self._at_end = None, None
            self._post(_settle, done, None, None)

        def command() -> None:
            self._at_end = finish

        self.ring.call(command)
        await done

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
                for batch in self._batches(units):
                    self._show(batch)
                if self._at_end is not None:
                    self._at_end()
                self.busy_since = None
        except BaseException as error:
            self._post(self._on_death, error)
            raise

    def _batches(self, units: list[AccessUnit]) -> list[list[AccessUnit]]:
        """The units of which each batch shows one picture, the newest.

        Where a muxer writes no lengths, a picture that fills its last packet to the brim is
        only known to be whole when the next one begins, and both come at once. That alone
        is no reason to leave one out: nothing is behind as long as the thread was waiting.
        """
        if len(units) == PAIR and self.ring.waited:
            return [[unit] for unit in units]
        return [units] if units else []

    def _show(self, units: list[AccessUnit]) -> None:
        unit = self._transform.run(units) if self._transform is not None else None
        if unit is not None:
            self._post(self._on_unit, unit)
