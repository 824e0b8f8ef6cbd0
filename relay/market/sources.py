"""Where addresses of orchestrators come from: lists that are fetched, and how long they hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from relay.errors import RelayError

MAX_LISTED: Final = 4096
"""Orchestrators that are known at once, over all lists."""
KEPT: Final = 60.0
"""Seconds that a list is good for (wire facts, 1.9)."""
FIRST_RETRY: Final = 1.0


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of a list.

    Attributes:
        address: as the list writes it.
        score: 1 for trusted, 0 for unknown; whatever number the list gives.
        capabilities: ``pipeline/model`` as far as the list tells; empty when it does not.
    """

    address: str
    score: float = 0.0
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Roll:
    """A whole list, best first.

    Attributes:
        entries: at most ``MAX_LISTED``.
        skipped: entries that were none, or one too many.
    """

    entries: tuple[Listed, ...] = ()
    skipped: int = 0


class Polled:
    """A list at another place. The last good one is used for as long as none newer is had.

    Args:
        name: what people call it.
        fetch: gets it; raises RelayError when it cannot be had.
    """

    def __init__(self, name: str, fetch: Callable[[], Awaitable[Roll]]) -> None:
        self.name = name
        self._fetch = fetch
        self._due: float | None = None
        self._failed = 0
        self.roll = Roll()
        self.failure = ""
        """Why it cannot be had at the moment, in words; empty when all is well."""

    def wait(self, now: float) -> float:
        """Seconds until it should be fetched again."""
        return 0.0 if self._due is None else max(0.0, self._due - now)

    async def poll(self, now: float) -> bool:
        """Fetch it; True when the list is another one than before."""
        before = self.roll
        try:
            self.roll = await self._fetch()
        except RelayError as error:
            self.failure = str(error)
            self._due = now + min(FIRST_RETRY * 2.0 ** min(self._failed, 10), KEPT)
            self._failed += 1
            return False
        self.failure = ""
        self._failed = 0
        self._due = now + KEPT
        return self.roll != before


def merge(lists: Iterable[Iterable[str]], key: Callable[[str], str]) -> list[str]:
    """One list of all, in their order, each address once.

    Args:
        key: the same for two spellings of one address.
    """
    found: dict[str, str] = {}
    for urls in lists:
        for url in urls:
            if len(found) >= MAX_LISTED:
                return [*found.values()]
            found.setdefault(key(url), url)
    return [*found.values()]
