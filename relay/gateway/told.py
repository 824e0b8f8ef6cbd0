"""What the worker of a job tells: its status, its errors, its version."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from relay.gateway.sellers import Sellers
from relay.gateway.teller import Teller
from relay.rpc.events import Event
from relay.rpc.trust import JobTrust

log = logging.getLogger(__name__)

SHORTLY: Final = 5.0
"""Seconds."""


class Told:
    """
    Args:
        name: of the stream, for the log.
        teller: hears each event.
        set_aside: takes work that is bounded in time; ``room`` whether it may be given some.

    Attributes:
        status: the last status event, as it came; ``error`` what the last error event said.
        transcoder: whose worker tells; None until a job began.
    """

    def __init__(
        self,
        name: str,
        sellers: Sellers,
        teller: Teller,
        set_aside: Callable[[Coroutine[Any, Any, Any]], None],
        room: Callable[[], bool],
    ) -> None:
        self._name = name
        self._sellers = sellers
        self._teller = teller
        self._set_aside = set_aside
        self._room = room
        self.status: dict[str, Any] = {}
        self.error: str | None = None
        self._error_at = 0.0
        self.transcoder: str | None = None
        self._trust: JobTrust | None = None

    def close(self) -> None:
        """The job is over: whoever takes work is asked no more, and not held."""
        self._room = lambda: False
        self._set_aside = Coroutine.close

    def begin(self, transcoder: str, trust: JobTrust) -> None:
        """Another worker tells from here on."""
        self.transcoder, self._trust = transcoder, trust
        self.status, self.error = {}, None

    def hear(self, event: Event, model: str) -> None:
        """One event of the worker, which runs ``model``."""
        self._teller.heard(event)
        if (status := event.status()) is not None:
            self.status = dict(event.body)
            self._follow_version(model, status.pipeline_version)
        elif event.type == "error":
            self.error = str(event.body.get("message", "unknown"))[:500]
            self._error_at = time.monotonic()
            log.warning("%s: the worker reports: %s", self._name, self.error)

    def cause(self, symptom: str) -> str:
        """The words for the end of its job: with what the worker said shortly before, if it did."""
        if self.error is None or time.monotonic() - self._error_at > SHORTLY:
            return symptom
        return f"{symptom}; the worker reported: {self.error}"

    def _follow_version(self, model: str, version: str) -> None:
        """A worker of another version than the schema's: fetch its schema."""
        transcoder, trust = self.transcoder, self._trust
        if transcoder is None or trust is None or not version or not self._room():
            return
        schema = self._sellers.schema(transcoder, model)
        if schema is None or schema.version != version:
            self._set_aside(self._sellers.load_schema(transcoder, model, trust))
