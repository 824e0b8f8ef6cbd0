"""Where a publisher's media goes."""

from __future__ import annotations

from typing import Protocol

from relay.media.unit import AccessUnit


class IngestSink(Protocol):
    """Both are called from the loop and must not wait."""

    def unit(self, unit: AccessUnit) -> None:
        """The next access unit; ``pts`` is on the publisher's own line, near 0 at first."""

    def closed(self, reason: str) -> None:
        """The session is over. Called once."""


class Nowhere:
    """Where media goes once a session is over."""

    def unit(self, unit: AccessUnit) -> None:
        return

    def closed(self, reason: str) -> None:
        return
