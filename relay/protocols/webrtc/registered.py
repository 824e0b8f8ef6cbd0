"""What a port knows of its peers, by which what comes is told from what is for nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Registered(dict[K, V]):
    """A dictionary that native code follows: it is told of each key that comes and goes.

    Keys come by assignment, and go by ``pop`` and ``del``.
    """

    __slots__ = ("_told",)

    def __init__(self) -> None:
        super().__init__()
        self._told: Callable[[K, bool], None] | None = None

    def tell(self, told: Callable[[K, bool], None]) -> None:
        """Call this from now on, and of what is there at once: whether the key is known."""
        self._told = told
        for key in self:
            told(key, True)

    def __setitem__(self, key: K, value: V) -> None:
        if self._told is not None and key not in self:
            self._told(key, True)
        super().__setitem__(key, value)

    def __delitem__(self, key: K) -> None:
        super().__delitem__(key)
        if self._told is not None:
            self._told(key, False)

    def pop(self, key: K, default: V | None = None) -> V | None:  # type: ignore[override]
        """The value, or ``default``; unlike a dictionary's it raises nothing."""
        if key not in self:
            return default
        value = self[key]
        del self[key]
        return value
