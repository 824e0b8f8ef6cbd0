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

Taker = Callable[[bytes], None]

_TAKERS: Final[dict[int, tuple[Taker, list[Exception]]]] = {}
"""By the identity of a body, with what they raised; an entry lives as long as its ``straight``
block."""


class _Straight(StreamReader):
    """The same object, which gives away what it is fed."""

    __slots__ = ()

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        if data:
            count = len(data)
            self.total_bytes += count
            self._cursor += count
            taker, failed = _TAKERS[id(self)]
            try:
                taker(data)
            except Exception as error:  # noqa: BLE001 - for whoever waits: the socket is no place
                failed.append(error)
                throw_away(self)
                self.set_exception(error)
        return False

    # Nothing, and not even a call of Python's, of which there would be two a piece.
    begin_http_chunk_receiving: ClassVar[Any] = bool
    end_http_chunk_receiving: ClassVar[Any] = bool


def taken(body: StreamReader) -> bool:
    """Whether ``body`` can be handed on so: a plain one, of which nothing waits to be read."""
    return type(body) is StreamReader and not body._buffer


def throw_away(body: StreamReader) -> None:
    """From here on nothing of ``body`` goes to its taker, if it has one."""
    if id(body) in _TAKERS:
        _TAKERS[id(body)] = (_nobody, [])


def _nobody(_data: bytes) -> None:
    pass


@contextmanager
def straight(
    body: StreamReader, taker: Taker, failed: list[Exception] | None = None
) -> Iterator[None]:
    """Within the block each piece of ``body`` goes to ``taker``.

    Args:
        failed: gets what ``taker`` raises; to wait for the body raises it too, and the rest is
            thrown away.
    """
    _TAKERS[id(body)] = (taker, [] if failed is None else failed)
    body.__class__ = _Straight
    try:
        yield
    finally:
        body.__class__ = StreamReader
        del _TAKERS[id(body)]
