"""WHIP and WHEP cases that wait for a server's own timers."""

from __future__ import annotations

import asyncio
from typing import Final

from relay.conformance.case import Book, NotOffered, holds
from relay.conformance.checker import QUIET
from relay.conformance.endpoint import Endpoint
from relay.conformance.joined import joined

BOOK: Book[Endpoint] = Book()

case = BOOK.case

CONSENT: Final = 38.0
"""Consent lives 30 s and is asked for every 4 to 6 s (RFC 7675 section 5.1)."""

SET_UP: Final = 65.0
"""Seconds that a session may wait for ICE and DTLS."""


@case(
    "consent-expires",
    "A client that answers nothing any more is sent nothing, and is 404, in 38 s.",
    "RFC 7675 5.1",
    slow=True,
    limit=CONSENT + 30,
)
async def _(e: Endpoint) -> None:
    async with joined(e, media=False) as one:
        one.mute()
        try:
            lasted = await one.session.gone(CONSENT)
        except NotOffered:  # its end is seen by silence alone
            lasted = CONSENT
            await asyncio.sleep(CONSENT)
        holds(lasted is not None, f"a session after {CONSENT:.0f} s", "404")
        holds(await one.silent(QUIET), "datagrams after its end", "none")


@case(
    "never-connects",
    "A session that never connects is 404 within a minute.",
    "RFC 9725 5",
    slow=True,
    limit=SET_UP + 15,
)
async def _(e: Endpoint) -> None:
    session = await e.session()
    lasted = await session.gone(SET_UP)
    holds(lasted is not None, f"a session after {SET_UP:.0f} s", "404")
