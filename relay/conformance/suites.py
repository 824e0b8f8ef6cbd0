"""Which cases there are for each kind of target."""

from __future__ import annotations

import ssl as tls
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, TypeVar

from relay.conformance import (
    channels,
    runner,
    trickle_abuse,
    trickle_closing,
    trickle_reading,
    trickle_writing,
)
from relay.conformance.case import Case, Result
from relay.conformance.channels import Trickle

Bench = TypeVar("Bench")

TRICKLE: Final[Sequence[Case[Trickle]]] = (
    *trickle_closing.BOOK.cases,
    *trickle_reading.BOOK.cases,
    *trickle_writing.BOOK.cases,
    *trickle_abuse.BOOK.cases,
)


WIDTH: Final = 6
"""Trickle cases at once, where each has a channel of its own."""


async def trickle(
    url: str, given: Sequence[str], cases: Sequence[Case[Trickle]], *, insecure: bool = False
) -> AsyncIterator[Result]:
    """Run trickle cases against a server.

    Args:
        url: its base path.
        given: addresses of channels, for a server that makes none.
        insecure: take any certificate.

    Raises:
        Unusable: nothing can be tested there.
    """
    target = await channels.find(url, given, context(insecure))
    width = WIDTH if target.creates else 1
    return runner.run(cases, lambda: channels.bench(target), width=width)


def context(insecure: bool) -> tls.SSLContext:
    """How an https server is known."""
    made = tls.create_default_context()
    if insecure:
        made.check_hostname = False
        made.verify_mode = tls.CERT_NONE
    return made


def chosen(
    cases: Iterable[Case[Bench]], *, slow: bool, abuse: bool, only: Sequence[str] = ()
) -> list[Case[Bench]]:
    """The cases to run.

    Args:
        only: names; empty: all. A slow or abusive one still needs its own word.
    """
    return [
        case
        for case in cases
        if (slow or not case.slow) and (abuse or not case.abuse) and (not only or case.name in only)
    ]
