"""A request's body, handed on in the call that reads the socket.

aiohttp keeps each piece until the handler's task has its turn, and looks for more in between:
a third of what a piece costs, and a wait. Here a piece goes to its taker at once. This
touches names of aiohttp that are not promised, so its version is held in ``pyproject.toml``;
where a body is of another kind, ``taken`` says so, and the handler reads it as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Final

from aiohttp import StreamReader

_TAKERS: Final[dict[int, Callable[[bytes], None]]] = {}
"""By the identity of a body; an entry lives as long as its ``straight`` block."""


class _Straight(StreamReader):
    """The same object, which gives away what it is fed."""

    __slots__ = ()

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        if data:
            count = len(data)
            self.total_bytes += count
            self._cursor += count
            _TAKERS[id(self)](data)
        return False

    # Nothing, and not even a call of Python's, of which there would be two a piece.
    begin_http_chunk_receiving: ClassVar[Any] = bool
    end_http_chunk_receiving: ClassVar[Any] = bool


def taken(body: StreamReader) -> bool:
    """Whether ``body`` can be handed on so: a plain one, of which nothing waits to be read."""
    return type(body) is StreamReader and not body._buffer


@contextmanager
def straight(body: StreamReader, taker: Callable[[bytes], None]) -> Iterator[None]:
    """Within the block each piece of ``body`` goes to ``taker``, which must not raise."""
    _TAKERS[id(body)] = taker
    body.__class__ = _Straight
    try:
        yield
    finally:
        body.__class__ = StreamReader
        del _TAKERS[id(body)]
