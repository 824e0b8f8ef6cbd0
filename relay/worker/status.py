"""What a job tells of itself, in the network's shape. Pure: the clock is an argument."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from relay.rpc.events import Event, InferenceStatus, InputStatus, StatusEvent

RATE_WINDOW: Final = 5.0
START_GRACE: Final = 5.0
INPUT_GAP: Final = 2.0
OUTPUT_GAP: Final = 2.0
ERROR_MEMORY: Final = 15.0
LOW_INPUT_FPS: Final = 15.0
ERROR_INTERVAL: Final = 2.0
"""Seconds between two error events; what happens between is counted."""

TRACE_TOPIC: Final = "stream_trace"


class Rate:
    """Frames a second, from a counter that is looked at now and then."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=64)

    def see(self, count: int, now: float) -> None:
        if self._seen and now - self._seen[-1][0] < RATE_WINDOW / 32:
            return
        self._seen.append((now, count))
        while len(self._seen) > 2 and now - self._seen[1][0] >= RATE_WINDOW:
            self._seen.popleft()

    @property
    def value(self) -> float:
        if len(self._seen) < 2:
            return 0.0
        (then, first), (now, last) = self._seen[0], self._seen[-1]
        return round((last - first) / (now - then), 1)


class JobStatus:
    """
    Args:
        pipeline: the model id.
        version: of the pipeline.
        extensions: what this job takes beyond the network's control messages.
        now: monotonic seconds.
        wall: seconds since the epoch at ``now``.
    """

    def __init__(
        self, pipeline: str, version: str, extensions: Sequence[str], *, now: float, wall: float
    ) -> None:
        self._pipeline = pipeline
        self._version = version
        self._extensions = tuple(extensions)
        self._offset = wall - now
        self._started = now
        self._input, self._output = Rate(), Rate()
        self._counts = (0, 0)
        self._last_input: float | None = None
        self._last_output: float | None = None
        self._params: Mapping[str, Any] | None = None
        self._params_at: float | None = None
        self._error = ""
        self._error_at: float | None = None
        self._told_at: float | None = None
        self._untold = 0
        self._state = "LOADING"
        self._state_at = now

    def saw(self, frames_in: int, frames_out: int, now: float) -> bool:
        """The job's counters as they are now; call it about once a second.

        Returns:
            Whether the state is another one now.
        """
        before_in, before_out = self._counts
        if frames_in > before_in:
            self._last_input = now
        if frames_out > before_out:
            self._last_output = now
        self._counts = (frames_in, frames_out)
        self._input.see(frames_in, now)
        self._output.see(frames_out, now)
        state = self.state(now)
        if state == self._state:
            return False
        self._state, self._state_at = state, now
        return True

    def params(self, values: Mapping[str, Any], now: float) -> None:
        """These parameters are in force."""
        self._params, self._params_at = dict(values), now

    def error(self, message: str, now: float) -> Event | None:
        """Something went wrong; the event to send, unless one went out just before."""
        self._error, self._error_at = message, now
        if self._told_at is not None and now - self._told_at < ERROR_INTERVAL:
            self._untold += 1
            return None
        if self._untold:
            message = f"{message} (and {self._untold} errors before)"
        self._told_at, self._untold = now, 0
        return Event.error(self._pipeline, message, time=self._wall(now))

    def trace(self, name: str, now: float) -> Event:
        """A step of the job that the network traces."""
        body = {"type": name, "timestamp": self._wall(now)}
        return Event(body, TRACE_TOPIC)

    def state(self, now: float) -> str:
        """The rules of the network's runners: input first, then what comes out."""
        starting = now - self._started < START_GRACE
        if self._last_input is None:
            return "LOADING" if starting else "DEGRADED_INPUT"
        if now - self._last_input > INPUT_GAP:
            return "DEGRADED_INPUT"
        if self._last_output is None:
            return "LOADING" if starting else "DEGRADED_INFERENCE"
        if now - self._last_output > OUTPUT_GAP:
            return "DEGRADED_INFERENCE"
        if self._error_at is not None and now - self._error_at < ERROR_MEMORY:
            return "DEGRADED_INFERENCE"
        if starting:
            return "ONLINE"
        fps = self._input.value
        if fps < LOW_INPUT_FPS:
            return "DEGRADED_INPUT"
        if self._output.value < min(10.0, 0.8 * fps):
            return "DEGRADED_INFERENCE"
        return "ONLINE"

    def event(self, now: float) -> Event:
        """The status as it is now."""
        params = self._params
        return StatusEvent(
            pipeline=self._pipeline,
            state=self.state(now),
            start_time=self._wall(self._started),
            timestamp=self._wall(now),
            last_state_update_time=self._wall(self._state_at),
            input_status=InputStatus(self._time(self._last_input), self._input.value),
            inference_status=InferenceStatus(
                last_output_time=self._time(self._last_output),
                fps=self._output.value,
                last_params_update_time=self._time(self._params_at),
                last_params=params,
                last_params_hash=None if params is None else _hash(params),
                last_error_time=self._time(self._error_at),
                last_error=self._error or None,
            ),
            extensions=self._extensions,
            pipeline_version=self._version,
        ).to_event()

    def _wall(self, now: float) -> int:
        return round((now + self._offset) * 1000)

    def _time(self, at: float | None) -> int | None:
        return None if at is None else self._wall(at)


def _hash(params: Mapping[str, Any]) -> str:
    text = orjson.dumps(dict(params), option=orjson.OPT_SORT_KEYS)
    return hashlib.md5(text, usedforsecurity=False).hexdigest()
