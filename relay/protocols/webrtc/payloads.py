"""The RTP payloads of one picture as native code cut them: one behind the other in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload


class Payloads(Sequence[bytes]):
    """A native fan-out sends them as they are; they become objects once one is asked for.

    Args:
        data: the payloads, one behind the other.
        lengths: of each, 16 bits in the machine's own order.
        count: of them, one at least.
    """

    __slots__ = ("_apart", "_count", "data", "lengths")

    def __init__(self, data: bytes, lengths: bytes, count: int) -> None:
        self.data = data
        self.lengths = lengths
        self._count = count
        self._apart: list[bytes] | None = None

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        return self._each()[index]

    def __eq__(self, other: object) -> bool:
        """To any sequence of the same payloads."""
        return isinstance(other, Sequence) and self._each() == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._each())

    def _each(self) -> list[bytes]:
        if self._apart is None:
            apart, data, at = [], self.data, 0
            for length in memoryview(self.lengths).cast("H"):
                apart.append(data[at : at + length])
                at += length
            self._apart = apart  # who asks for one packet asks for more
        return self._apart
