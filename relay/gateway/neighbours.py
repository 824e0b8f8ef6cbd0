"""The further addresses of an operator that its orchestrator names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from relay.errors import BadInput
from relay.market.sources import MAX_LISTED
from relay.rpc.address import NodeAddress


class Neighbours:
    """Remembers who named whom, for when an orchestrator is full or away and tells nothing.

    Args:
        most: addresses of one orchestrator that count.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._named: dict[str, tuple[str, ...]] = {}

    def note(self, by: str, nodes: Sequence[str]) -> tuple[str, ...]:
        """What ``by`` names now, in the place of what it named before; the usable ones."""
        usable = tuple(url for url in nodes[: self._most] if same(url) is not None)
        self._named.pop(by, None)
        if usable:
            self._named[by] = usable
            if len(self._named) > MAX_LISTED:
                del self._named[next(iter(self._named))]
        return usable

    def of(self, who: Iterable[str]) -> dict[str, str]:
        """The addresses that these named last, with who did; each once."""
        found: dict[str, str] = {}
        for by in who:
            for url in self._named.get(by, ()):
                found.setdefault(url, by)
        return found


def same(url: str) -> str | None:
    """One spelling for each address; None for what is none."""
    try:
        return NodeAddress.parse(url).url.lower()
    except BadInput:
        return None
