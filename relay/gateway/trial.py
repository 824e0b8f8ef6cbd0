"""Parameters on trial: a change that kills one worker after the other is taken back.

Without it one bad change would burn through every orchestrator there is, and the
stream would stand still though it ran well a moment before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from relay.gateway.status import Caution

SETTLED: Final = 10.0
"""Seconds of pictures under some parameters after which they count as good. A session that
ends before may have died of them."""
DEATHS: Final = 2
"""Sessions that may die of a change; one may have had reasons of its own."""
TAKEN_BACK: Final = Caution(
    "params_taken_back",
    "workers failed one after the other under the last parameters; those before are used again",
)


@dataclass(frozen=True, slots=True)
class Given:
    """Parameters as a worker gets them.

    Attributes:
        params: all of them.
        update: the last change as it was written, for workers without a schema.
    """

    params: dict[str, Any]
    update: bytes | None = None


class Trial:
    """The parameters of one stream and model. Times are ``time.monotonic()`` seconds.

    Attributes:
        now: what a worker is to run with.
        cautions: that a change was taken back, until another one is made.
        settled: another picture changes nothing.
    """

    def __init__(self, params: dict[str, Any]) -> None:
        self.now = Given(params)
        self.cautions: tuple[Caution, ...] = ()
        self._good: Given | None = None
        self._first: float | None = None
        """When the first picture came since the session that runs was given them."""
        self._deaths = 0
        self.settled = False

    def change(self, params: dict[str, Any], update: bytes) -> None:
        self.now = Given(params, update)
        self.cautions = ()
        self._deaths = 0
        self._first = None
        self.settled = False

    def picture(self, now: float) -> None:
        """A picture came that viewers could be sent."""
        if self._first is None:
            self._first = now
        # Before anything has settled, what first brought a picture is better than nothing.
        if self._good is None and self.now.update is None:
            self._good = self.now
        if now - self._first > SETTLED:
            self._good, self._deaths, self.settled = self.now, 0, True

    def died(self) -> bool:
        """A session with them ended, or the job was refused for them.

        Returns:
            Whether the change is taken back with that.
        """
        self._first = None
        self.settled = False
        if self._good is None or self.now == self._good:
            return False
        self._deaths += 1
        if self._deaths < DEATHS:
            return False
        self.now, self.cautions, self._deaths = self._good, (TAKEN_BACK,), 0
        return True
