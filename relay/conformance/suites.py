"""Which cases there are for each kind of target."""

from __future__ import annotations

import ssl as tls
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, TypeVar

from relay.conformance import (
    channels,
    endpoint,
    offering_abuse,
    offering_http,
    offering_ice,
    offering_media,
    offering_sdp,
    offering_session,
    offering_slow,
    runner,
    trickle_abuse,
    trickle_closing,
    trickle_reading,
    trickle_writing,
)
from relay.conformance.case import Case, Result
from relay.conformance.channels import Trickle
from relay.conformance.endpoint import Endpoint, Side

Bench = TypeVar("Bench")

TRICKLE: Final[Sequence[Case[Trickle]]] = (
    *trickle_closing.BOOK.cases,
    *trickle_reading.BOOK.cases,
    *trickle_writing.BOOK.cases,
    *trickle_abuse.BOOK.cases,
)


OFFERING: Final[Sequence[Case[Endpoint]]] = (
    *offering_http.BOOK.cases,
    *offering_sdp.BOOK.cases,
    *offering_session.BOOK.cases,
    *offering_ice.BOOK.cases,
    *offering_media.BOOK.cases,
    *offering_slow.BOOK.cases,
    *offering_abuse.BOOK.cases,
)
"""Of WHIP and WHEP: a case looks which of the two it is asked of."""

WIDTH: Final = 6
"""Trickle cases at once, where each has a channel of its own."""


async def trickle(
    url: str,
    given: Sequence[str],
    cases: Sequence[Case[Trickle]],
    *,
    token: str | None = None,
    insecure: bool = False,
) -> AsyncIterator[Result]:
    """Run trickle cases against a server.

    Args:
        url: its base path.
        given: addresses of channels, for a server that makes none.
        token: goes with each request.
        insecure: take any certificate.

    Raises:
        Unusable: nothing can be tested there.
    """
    target = await channels.find(url, given, context(insecure), token=token)
    width = WIDTH if target.creates else 1
    return runner.run(cases, lambda: channels.bench(target), width=width)


async def offering(
    side: Side,
    url: str,
    token: str | None,
    cases: Sequence[Case[Endpoint]],
    *,
    insecure: bool = False,
) -> AsyncIterator[Result]:
    """Run WHIP or WHEP cases against an endpoint, one at a time: they share its name.

    Raises:
        Unusable: nothing can be tested there.
    """
    ssl, stage = context(insecure), endpoint.Stage()
    await endpoint.check(side, url, token, ssl)
    return runner.run(cases, lambda: endpoint.bench(side, url, token, ssl, stage))


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
