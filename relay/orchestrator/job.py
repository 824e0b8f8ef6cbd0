"""One live job: its channels, its state, and why it ended."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from relay.orchestrator.capacity import Entry
from relay.protocols.trickle.passes import Pass
from relay.rpc.live_job import LiveJobAnswer, LiveJobRequest
from relay.rpc.runner import RunnerStart
from relay.states import StateMachine

log = logging.getLogger(__name__)

MPEG_TS: Final = "video/MP2T"
JSON: Final = "application/json"


class JobState(Enum):
    STARTING = "starting"  # its channels are there, its runner is being asked
    RUNNING = "running"
    ENDED = "ended"


_TABLE: Final[Mapping[JobState, frozenset[JobState]]] = {
    JobState.STARTING: frozenset({JobState.RUNNING, JobState.ENDED}),
    JobState.RUNNING: frozenset({JobState.ENDED}),
    JobState.ENDED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Channels:
    """Names of the four channels. Whoever knows them may write, read and delete them:
    they are secrets, and no log or status has them."""

    manifest_id: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    separate: bool = False
    _other: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def for_runner(self) -> Channels:
        """The names that the runner is told: others, where they are separate."""
        return Channels(self._other, self.separate) if self.separate else self

    @property
    def input(self) -> str:
        return self.manifest_id

    @property
    def output(self) -> str:
        return f"{self.manifest_id}-out"

    @property
    def control(self) -> str:
        return f"{self.manifest_id}-control"

    @property
    def events(self) -> str:
        return f"{self.manifest_id}-events"

    def kinds(self) -> tuple[tuple[str, str], ...]:
        """Each name with its content type, the input first."""
        return (
            (self.input, MPEG_TS),
            (self.output, MPEG_TS),
            (self.control, JSON),
            (self.events, JSON),
        )


class Job:
    """
    Args:
        number: of this process; what logs and status call it.
        entry: what it occupies.
        now: monotonic seconds.
        separate: gateway and runner get names of their own.
        tokens: each gets a token.

    Attributes:
        passes: the gateway's token and the runner's; None where none are asked for.
    """

    def __init__(
        self,
        number: int,
        request: LiveJobRequest,
        entry: Entry,
        now: float,
        *,
        separate: bool = False,
        tokens: bool = False,
    ) -> None:
        self.number = number
        self.request = request
        self.entry = entry
        self.channels = Channels(separate=separate)
        self.passes = (Pass(), Pass()) if tokens else None
        self.began = now
        self.end_reason = ""
        self._machine = StateMachine(f"job {number}", JobState.STARTING, _TABLE, log=log)

    @property
    def state(self) -> JobState:
        return self._machine.state

    def run(self) -> bool:
        """Its runner has taken it. False when it has ended meanwhile."""
        if self.state is JobState.ENDED:
            return False
        return self._machine.to(JobState.RUNNING, f"{self.entry.model} at {self.entry.url}")

    def end(self, reason: str, *, level: int = logging.INFO) -> bool:
        """False when it had ended before; ``level`` is that of the log's line."""
        if not self._machine.to(JobState.ENDED, reason, level=level):
            return False
        self.end_reason = reason
        return True

    def answer(self, base: str) -> LiveJobAnswer:
        """The gateway's view; ``base`` is where trickle hangs, with a slash at its end."""
        channels = self.channels
        return LiveJobAnswer(
            publish_url=base + channels.input,
            subscribe_url=base + channels.output,
            control_url=base + channels.control,
            events_url=base + channels.events,
            manifest_id=channels.manifest_id,
            trickle_token=self.passes[0].token if self.passes else "",
        )

    def order(self, base: str) -> RunnerStart:
        """The runner's view: it reads what the gateway publishes, and the other way."""
        channels, request = self.channels.for_runner(), self.request
        return RunnerStart(
            subscribe_url=base + channels.input,
            publish_url=base + channels.output,
            control_url=base + channels.control,
            events_url=base + channels.events,
            model_id=request.model_id,
            params=request.params,
            # Some runners take no job without one.
            gateway_request_id=request.gateway_request_id or secrets.token_hex(4),
            manifest_id=self.channels.manifest_id if not self.channels.separate else "",
            stream_id=request.stream_id,
            trickle_token=self.passes[1].token if self.passes else "",
        )

    @property
    def tokenless(self) -> str:
        """Which sides ask for channels without their token, and never had it with them.

        One that has shown it once is in the clear: somebody else, who knows a name, must
        not end the job by asking without.
        """
        if self.passes is None:
            return ""
        sides = zip(("gateway", "runner"), self.passes, strict=True)
        return " and ".join(side for side, one in sides if one.missed and not one.shown)

    def describe(self, now: float) -> dict[str, Any]:
        """For the status: nothing by which a channel could be found."""
        return {
            "job": self.number,
            "model_id": self.entry.model,
            "state": self.state.value,
            "seconds": round(now - self.began, 1),
            "runner": self.entry.number,
        }
