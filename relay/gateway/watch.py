"""Watches a session while it runs: is it still worth having?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from relay.config import Gateway
from relay.gateway.dispatcher import KEYFRAME_WARNING, Verdict, due, judge
from relay.gateway.rendition import Rendition
from relay.gateway.session import Ending, OrchestratorSession
from relay.gateway.teller import Teller

TICK: Final = 0.05
"""Seconds between two looks at a session at least. A stall is called one two looks early, so
that it is known within its bound and not just after it."""

LONGEST: Final = 1.0
"""The same at most, and no longer than output may be missing; in between it is looked at when
something may be due. Each look wakes the process, and there is one for each stream."""

UNREAD: Final = 5 * TICK
"""Seconds that our own loop stood still after which nothing is judged before the sockets are read
once. For less that would be to judge nothing on a machine that is always a little late."""


class Watch:
    """
    Args:
        starved: told, at each look, that the publisher sends no key frame, in words; and
            once with no words when one came.

    Attributes:
        last_keyframe: when the publisher's last key frame came (monotonic).
    """

    def __init__(
        self,
        settings: Gateway,
        rendition: Rendition,
        teller: Teller,
        starved: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._rendition = rendition
        self._teller = teller
        self._starved: Callable[[str], None] = starved
        self._told = False
        self.last_keyframe = time.monotonic()

    def close(self) -> None:
        """Nobody is told any more, and nobody held."""
        self._starved = lambda _: None

    async def over(self, session: OrchestratorSession) -> Ending:
        """Returns when the session must not go on."""
        self._told = False
        # A stall is called one a little early, for what the looking takes.
        output_timeout = self._settings.output_timeout - 2 * TICK
        start_timeout = self._settings.start_timeout
        longest = min(LONGEST, output_timeout)
        pause, last = TICK, time.monotonic()
        output, stood_still = session.last_output, 0.0
        while True:
            await asyncio.sleep(pause)
            now = time.monotonic()
            late, last = now - last - pause, now
            pause = TICK
            if session.last_output != output:
                output, stood_still = session.last_output, 0.0
            if late > TICK:  # that time cannot be held against the orchestrator
                stood_still += late
            if late > UNREAD:
                continue
            starved = now - self.last_keyframe
            self._tell(starved)
            seen = session.observe(
                starved=starved,
                late_since=self._rendition.compare.late_since,
                stood_still=stood_still,
            )
            self._teller.progress(sent=seen.last_input is not None, segments=session.segments)
            judgement = judge(seen, now, output_timeout=output_timeout, start_timeout=start_timeout)
            if judgement.verdict is not Verdict.GO_ON:
                return Ending(judgement.code, judgement.words)
            wait = due(seen, output_timeout=output_timeout, start_timeout=start_timeout) - now
            pause = max(min(wait, longest), TICK)

    def _tell(self, starved: float) -> None:
        if starved > KEYFRAME_WARNING:
            self._told = True
            self._starved(f"the publisher has sent no key frame for {starved:.0f} seconds")
        elif self._told:
            self._told = False
            self._starved("")
