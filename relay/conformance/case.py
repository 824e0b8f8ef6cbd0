"""Cases are data: a name, what it proves, and a small function that finds out."""

from __future__ import annotations

import ssl as tls
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from relay.errors import foreign_words

Bench = TypeVar("Bench")

LIMIT: Final = 15.0
"""Seconds for a case that does not say otherwise."""


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_OFFERED = "not offered"


class Failed(Exception):
    """What was seen is not what a case expects; both are short sentences."""

    def __init__(self, seen: object, expected: object) -> None:
        super().__init__(f"seen {seen}, expected {expected}")
        self.seen = str(seen)
        self.expected = str(expected)


class NotOffered(Exception):
    """The target has nothing that this case could be asked of; the message says what."""


class Unusable(Exception):
    """The target cannot be tested at all; the message says why."""


def no_answer(url: str, error: Exception) -> Unusable:
    """Why nothing can be asked of a server that could not be reached."""
    cause = getattr(error, "certificate_error", error)  # aiohttp has it inside its own
    if isinstance(cause, tls.SSLCertVerificationError):
        return Unusable(
            f"the certificate of {url} is not trusted ({cause.verify_message}): "
            "add --insecure to take any"
        )
    return Unusable(f"{url} does not answer as a server of HTTP: {foreign_words(error)}")


@dataclass(frozen=True, slots=True)
class Case(Generic[Bench]):
    """One thing that a target must do.

    Attributes:
        name: stable, for programs; lower case with dashes.
        says: one sentence.
        section: where the rule stands.
        act: raises ``Failed`` or ``NotOffered``.
        slow: it waits for the target's own long timers.
        abuse: no well-meaning peer does this, and it may harm the target.
        limit: seconds it may take.
    """

    name: str
    says: str
    section: str
    act: Callable[[Bench], Awaitable[None]]
    slow: bool = False
    abuse: bool = False
    limit: float = LIMIT


@dataclass(frozen=True, slots=True)
class Result:
    """How a case ended; ``seen`` and ``expected`` of a failure, ``seen`` why of no offer."""

    name: str
    says: str
    section: str
    outcome: Outcome
    seconds: float
    seen: str = ""
    expected: str = ""

    def told(self) -> dict[str, Any]:
        """For programs."""
        return {key: value for key, value in asdict(self).items() if value != ""}


class Book(Generic[Bench]):
    """A registry of cases, in the order in which they run.

    Args:
        abuse: all of them are.
    """

    def __init__(self, *, abuse: bool = False) -> None:
        self.cases: list[Case[Bench]] = []
        self._abuse = abuse

    def case(
        self,
        name: str,
        says: str,
        section: str,
        *,
        slow: bool = False,
        limit: float = LIMIT,
    ) -> Callable[[Callable[[Bench], Awaitable[None]]], Callable[[Bench], Awaitable[None]]]:
        """Register the function that it decorates."""

        def register(
            act: Callable[[Bench], Awaitable[None]],
        ) -> Callable[[Bench], Awaitable[None]]:
            self.cases.append(Case(name, says, section, act, slow, self._abuse, limit))
            return act

        return register


def same(what: str, seen: object, expected: object) -> None:
    """Raises Failed unless both are equal."""
    if seen != expected:
        raise Failed(f"{what} {_short(seen)}", f"{what} {_short(expected)}")


def one_of(what: str, seen: object, allowed: Iterable[object]) -> None:
    """Raises Failed unless ``seen`` is among ``allowed``."""
    choices = list(allowed)
    if seen not in choices:
        words = " or ".join(map(_short, choices))
        if isinstance(allowed, range):
            words = f"{allowed.start} to {allowed.stop - 1}"
        raise Failed(f"{what} {_short(seen)}", f"{what} {words}")


def holds(condition: object, seen: object, expected: object) -> None:
    """Raises Failed unless ``condition`` is true."""
    if not condition:
        raise Failed(_short(seen), _short(expected))


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text)} characters)"
