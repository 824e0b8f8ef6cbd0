"""A state machine is an enum, a table of what may follow what, and one setter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Generic, TypeVar

S = TypeVar("S", bound=Enum)


class IllegalTransition(AssertionError):
    """The code asked for a transition that its own table does not hold."""


class StateMachine(Generic[S]):
    """Holds one state and lets it move only along a table.

    Args:
        name: what the log lines call it, with its id.
        initial: the first state.
        table: for each state, the states that may follow it.
        on_change: called with the old and the new state, after the move; let go of with a
            state that nothing may follow, so that its owner is no cycle of references.
        level: of the lines in the log.
    """

    __slots__ = ("_level", "_log", "_name", "_on_change", "_state", "_table")

    def __init__(
        self,
        name: str,
        initial: S,
        table: Mapping[S, frozenset[S]],
        *,
        log: logging.Logger,
        on_change: Callable[[S, S], None] | None = None,
        level: int = logging.INFO,
    ) -> None:
        self._name = name
        self._state = initial
        self._table = table
        self._log = log
        self._on_change = on_change
        self._level = level

    @property
    def state(self) -> S:
        return self._state

    def to(self, new: S, reason: str = "", *, level: int | None = None) -> bool:
        """Move to ``new``; a move to the state already held does nothing.

        Args:
            level: of its line in the log, where it is another than all others'.

        Returns:
            Whether the state changed.

        Raises:
            IllegalTransition: the table does not allow it.
        """
        old = self._state
        if new is old:
            return False
        if new not in self._table[old]:
            raise IllegalTransition(f"{self._name}: {old.name} -> {new.name}")
        self._state = new
        why = f" ({reason})" if reason else ""
        self._log.log(level or self._level, "%s: %s -> %s%s", self._name, old.name, new.name, why)
        on_change = self._on_change
        if not self._table[new]:
            self._on_change = None
        if on_change is not None:
            on_change(old, new)
        return True
