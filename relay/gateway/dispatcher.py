"""When a job moves: decided from values alone, no socket and no clock.

The live loop gathers what it sees of a session into an ``Observation`` and asks
``judge``; the answer says whether the job goes on, and if not why, in a stable code
and in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

INPUT_FLOWS: Final = 0.5
"""Seconds since the last input within which input counts as flowing."""
KEYFRAME_WARNING: Final = 10.0
KEYFRAME_END: Final = 60.0
EVENT_GAP: Final = 30.0
"""A job without any event for this long is given up (network rule, live-ai.md 2.4)."""
MAX_IN_FLIGHT: Final = 3
"""Input segments begun and not yet answered (network rule, live-ai.md 5.4)."""
LATE_FOR: Final = 2.0
"""Seconds of output that is too old and comes no nearer, until the job moves."""
QUICK_RETRIES: Final = 20
"""Tries in a row at the quick pace: a worker that is being started again is soon there."""
QUICK_RETRY: Final = 0.25
LONGEST_RETRY: Final = 5.0


class Verdict(StrEnum):
    GO_ON = "go_on"
    MOVE = "move"  # to another orchestrator; this one failed us
    END = "end"  # the stream itself cannot be served


@dataclass(frozen=True, slots=True)
class Observation:
    """What is seen of a session. Times are ``time.monotonic()`` seconds, or None for never.

    Attributes:
        opened: when the job was accepted.
        last_input: when the last access unit of video was written to it.
        input_since: when the input began to flow without a gap.
        last_output: when the last video unit came back that viewers could be sent.
        last_event: when the last event came.
        in_flight: input segments that were begun and are not answered.
        starved: seconds since the publisher's last key frame.
        loading: the runner said that it is loading its model.
        loaded: when it first said that it is not loading any more.
        late_since: since when its output is too old to be of use (``compare.LATE``).
        stood_still: seconds since ``last_output`` in which we did nothing: no input left, and what
            came back was not read.
    """

    opened: float
    input_since: float | None
    last_input: float | None
    last_output: float | None
    last_event: float | None
    in_flight: int
    starved: float
    loading: bool
    loaded: float | None = None
    late_since: float | None = None
    stood_still: float = 0.0


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: Verdict
    code: str = ""
    words: str = ""


GO_ON: Final = Judgement(Verdict.GO_ON)


def judge(
    seen: Observation, now: float, *, output_timeout: float, start_timeout: float
) -> Judgement:
    """Does this session go on?

    Args:
        output_timeout: seconds without output, while input flows, that are borne.
        start_timeout: the same until the first output; tripled while a model loads.
    """
    if seen.starved >= KEYFRAME_END:
        return Judgement(
            Verdict.END,
            "no_keyframe",
            f"the publisher sent no key frame for {KEYFRAME_END:.0f} seconds",
        )
    if seen.in_flight > MAX_IN_FLIGHT:
        return Judgement(Verdict.MOVE, "slow_input", "the orchestrator takes the input too slowly")
    if now - (seen.last_event or seen.opened) > EVENT_GAP:
        return Judgement(
            Verdict.MOVE, "no_events", f"no word from the worker for {EVENT_GAP:.0f} seconds"
        )
    if seen.input_since is None or seen.last_input is None:
        return GO_ON
    if now - seen.last_input > INPUT_FLOWS:
        return GO_ON
    if seen.last_output is None:
        patience = start_timeout * 3 if seen.loading else start_timeout
        if now - max(seen.input_since, seen.loaded or seen.opened) > patience:
            return Judgement(
                Verdict.MOVE, "no_first_picture", f"no first picture within {patience:g} seconds"
            )
        return GO_ON
    if now - max(seen.last_output, seen.input_since) - seen.stood_still > output_timeout:
        return Judgement(
            Verdict.MOVE,
            "no_output",
            f"no picture for {output_timeout:g} seconds while input flows",
        )
    if seen.late_since is not None and now - max(seen.late_since, seen.input_since) > LATE_FOR:
        return Judgement(
            Verdict.MOVE, "output_late", "its pictures are seconds older than the camera's"
        )
    return GO_ON


def due(seen: Observation, *, output_timeout: float, start_timeout: float) -> float:
    """When ``judge`` may first answer otherwise of a session of which nothing new is seen.

    Monotonic seconds. The starved publisher's end is left to whoever looks now and then.
    """
    times = [(seen.last_event or seen.opened) + EVENT_GAP]
    if seen.input_since is not None and seen.last_output is None:
        patience = start_timeout * 3 if seen.loading else start_timeout
        times.append(max(seen.input_since, seen.loaded or seen.opened) + patience)
    elif seen.input_since is not None and seen.last_output is not None:
        times.append(max(seen.last_output, seen.input_since) + seen.stood_still + output_timeout)
        if seen.late_since is not None:
            times.append(max(seen.late_since, seen.input_since) + LATE_FOR)
    return min(times)


def retry_delay(failures: int) -> float:
    """Seconds to wait before the next try after ``failures`` in a row (1 or more)."""
    slow = max(0, failures - QUICK_RETRIES)
    return min(QUICK_RETRY * 2.0 ** min(slow, 10), LONGEST_RETRY)
