"""Every job of this node: begun at a runner, watched, and ended whole.

A job ends when its input or its control channel is deleted, when its runner is lost or
deletes its own channels, when the input stays silent, when its gateway was cut off and is
connected no more, or when the node stops. Then all four channels are closed, which is how the
runner and the gateway learn of it, and its place is free at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final

from relay.errors import PeerError, PeerRefused, PeerTimeout, RelayError, Unavailable
from relay.orchestrator.capacity import Entry
from relay.orchestrator.job import Job, JobState
from relay.orchestrator.runners import Runners
from relay.protocols.trickle.passes import Access
from relay.protocols.trickle.server import TrickleServer
from relay.rpc.live_job import LiveJobAnswer, LiveJobRequest
from relay.rpc.runner import NO_CAPACITY

log = logging.getLogger(__name__)

START_BUDGET: Final = 4.5
"""Seconds for the runners to take a job; the gateway hangs up after 5."""

ATTEMPT: Final = 2.0
"""Seconds that one runner gets of it while another could still be asked."""

PATIENCE: Final = 0.1
"""Seconds between two tries at a runner that has not yet let go of a job that ended."""

SILENCE: Final = 60.0
"""Seconds without input that a gateway which still reads the output may let pass."""
GONE: Final = 10.0
"""The same for one that does not read it either: it died, or lost its way to us."""
LEFT: Final = 2.0
"""The same for one that was cut off as it sent some, and has no connection to any of the job's
channels any more: its process was ended, and the next one may ask for this place."""

TOKENLESS: Final = 2.0
"""Seconds from a job's begin in which each side shows its token, where tokens are asked for."""

LAST_WORDS: Final = 0.5
"""Seconds from a deleted output to the end, in which the runner may say why in an event."""

Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Jobs:
    """
    Args:
        spawn: starts a task that the node owns.
        gateway_base: where gateways find trickle, with a slash at its end.
        runner_base: the same for runners.
        separate_names: whether gateway and runner get names of their own for a job's
            channels, each for its part of them.
        tokens: whether each gets a token, which the trickle server asks for.
    """

    def __init__(
        self,
        trickle: TrickleServer,
        runners: Runners,
        *,
        spawn: Spawn,
        gateway_base: Callable[[], str],
        runner_base: Callable[[], str],
        separate_names: bool = False,
        tokens: bool = False,
    ) -> None:
        self._trickle = trickle
        self._runners = runners
        self._spawn = spawn
        self._gateway_base = gateway_base
        self._runner_base = runner_base
        self._separate = separate_names
        self._tokens = tokens
        self._count = 0
        self.running: set[Job] = set()
        self.ended: Counter[str] = Counter()
        self._refusals: dict[int, str] = {}  # by entry: why its last job was not started
        self._none_left = asyncio.Event()
        self._none_left.set()

    # beginnings

    async def start(self, request: LiveJobRequest) -> LiveJobAnswer:
        """Have a runner take the job, one after the other.

        Raises:
            Unavailable: none has a place, or none took it in time. The text has
                ``insufficient capacity`` in it, by which a gateway tries elsewhere.
            PeerRefused: a runner says that the job itself is wrong; the text is a stock
                orchestrator's, with ``returned 400`` or ``returned 422`` in it.
        """
        deadline = time.monotonic() + START_BUDGET
        reasons: dict[int, str] = {}  # why each entry that was asked did not take it
        while True:
            left = deadline - time.monotonic()
            candidates = [
                entry
                for entry in self._runners.candidates(request.model_id)
                if entry.number not in reasons
            ]
            if not candidates or left <= 0:
                words = "; ".join(dict.fromkeys([NO_CAPACITY, *reasons.values()]))
                raise Unavailable(words, code="no_capacity")
            entry = candidates[0]
            timeout = min(ATTEMPT, left) if len(candidates) > 1 else left
            try:
                return await self._attempt(request, entry, timeout)
            except PeerRefused as error:
                if error.code == "runner_bad_request":
                    raise
                if error.code == "runner_capacity" and self._settling(entry):
                    # The job before this one is still on its way out there.
                    await asyncio.sleep(PATIENCE)
                    continue
                reasons[entry.number] = str(error)
            except PeerTimeout:
                reasons[entry.number] = "the runner did not answer in time"
            except PeerError as error:
                # Its address is in the text of this one, and is nobody else's business.
                log.warning("no job at a runner: %s", error)
                reasons[entry.number] = "the runner failed"
            self._runners.look_now(entry.url)

    def _settling(self, entry: Entry) -> bool:
        return self._runners.capacity.settling(entry.url, time.monotonic())

    async def _attempt(
        self, request: LiveJobRequest, entry: Entry, timeout: float
    ) -> LiveJobAnswer:
        job = self._open(request, entry)
        reason, kind = "the caller left", "not_started"
        try:
            await self._runners.client(entry).start(job.order(self._runner_base()), timeout=timeout)
            reason = ""
        except PeerRefused as error:
            reason, kind = str(error), "refused"
            raise
        except PeerError as error:
            reason = str(error)
            raise
        finally:
            if reason:
                # Gateways try again several times a second: the log has each reason once.
                again = self._refusals.get(entry.number) == reason
                level = logging.DEBUG if again else logging.INFO
                self._refusals[entry.number] = reason
                self.end(job, f"not started: {reason}", kind=kind, level=level)
        self._refusals.pop(entry.number, None)
        if not job.run():
            raise PeerError(f"the job ended as it began: {job.end_reason}", code="job_ended")
        return job.answer(self._gateway_base())

    def _open(self, request: LiveJobRequest, entry: Entry) -> Job:
        """Take a place and make the channels, watched from the start."""
        self._count += 1
        began = time.monotonic()
        job = Job(self._count, request, entry, began, separate=self._separate, tokens=self._tokens)
        self._runners.capacity.take(entry, job.began)
        self.running.add(job)
        self._none_left.clear()
        try:
            for name, mime in job.channels.kinds():
                self._trickle.create(name, mime)
            self._part(job)
        except RelayError:
            self.end(job, "no channels", kind="not_started")
            raise
        channels = job.channels
        for name, word in (
            (channels.input, "input"),
            (channels.control, "control"),
            (channels.events, "events"),
        ):
            self._trickle.on_closed(
                name,
                lambda why, word=word: self.end(  # type: ignore[misc]
                    job, f"{word} channel {why}", kind=f"{word}_closed"
                ),
            )
        self._trickle.on_closed(channels.output, lambda why: self._output_closed(job, why))
        return job

    def _part(self, job: Job) -> None:
        """Gateway and runner each write what the other reads: by their names, their tokens,
        or both."""
        ours, theirs = job.channels, job.channels.for_runner()
        for (name, _), (other, _) in zip(ours.kinds(), theirs.kinds(), strict=True):
            from_gateway = name in (ours.input, ours.control)
            gateway = Access.WRITE if from_gateway else Access.READ
            runner = Access.READ if from_gateway else Access.WRITE
            if self._separate:
                self._trickle.grant(name, name, gateway)
                self._trickle.grant(other, name, runner)
            if job.passes is not None:
                self._trickle.let(name, job.passes[0], gateway)
                self._trickle.let(other, job.passes[1], runner)

    def _output_closed(self, job: Job, why: str) -> None:
        if job.state is not JobState.ENDED:
            self._spawn(self._end_later(job, f"output channel {why}"))

    async def _end_later(self, job: Job, reason: str) -> None:
        await asyncio.sleep(LAST_WORDS)
        self.end(job, reason, kind="output_closed")

    # ends

    def end(self, job: Job, reason: str, *, kind: str, level: int = logging.INFO) -> None:
        """End a job; its place is free when this returns. Nothing when it has ended."""
        if not job.end(reason, level=level):
            return
        self.running.discard(job)
        self.ended[kind] += 1
        # A runner that refused a job never had it; any other may still be letting go of it.
        ended = None if kind == "refused" else time.monotonic()
        self._runners.capacity.give(job.entry, ended)
        self._runners.look_now(job.entry.url)
        self._spawn(self._close_channels(job))
        if not self.running:
            self._none_left.set()

    def lost(self, url: str, reason: str) -> None:
        """A runner is gone, and every job of ours with it."""
        for job in [job for job in self.running if job.entry.url == url]:
            self.end(job, reason, kind="runner_lost")

    def end_all(self, reason: str) -> None:
        for job in list(self.running):
            self.end(job, reason, kind="stopped")

    async def wait_until_none(self) -> None:
        await self._none_left.wait()

    async def watch(self) -> None:
        """End the jobs whose input stays silent, whose gateway is gone, or whose peers know
        nothing of tokens; never returns."""
        while True:
            await asyncio.sleep(min(1.0, SILENCE / 4))
            self.sweep(time.monotonic())

    def sweep(self, now: float) -> None:
        for job in list(self.running):
            silent = now - self._last_input(job)
            if now - job.began > TOKENLESS and (sides := job.tokenless):
                reason = f"no trickle token came from the {sides}: trickle_tokens asks for it"
                self.end(job, reason, kind="no_token", level=logging.WARNING)
            elif silent > SILENCE:
                self.end(job, f"no input for {SILENCE:g} s", kind="silent")
            elif silent > GONE and not self._is_read(job):
                self.end(job, "the gateway is gone", kind="silent")
            elif silent > LEFT and self._is_left(job):
                self.end(job, "the gateway has closed every connection", kind="silent")

    def _last_input(self, job: Job) -> float:
        name = job.channels.input
        if not self._trickle.exists(name):
            return job.began
        return max(job.began, self._trickle.activity(name).last_write)

    def _is_read(self, job: Job) -> bool:
        name = job.channels.output
        return self._trickle.exists(name) and self._trickle.activity(name).readers > 0

    def _is_left(self, job: Job) -> bool:
        channels = job.channels
        if not all(self._trickle.exists(name) for name, _ in channels.kinds()):
            return False  # it is ending
        source, output, control, events = (
            self._trickle.activity(name) for name, _ in channels.kinds()
        )
        held = source.writers + output.readers + control.writers + events.readers
        return source.cut and held == 0

    async def _close_channels(self, job: Job) -> None:
        for name, _ in job.channels.kinds():
            await self._trickle.close(name)
