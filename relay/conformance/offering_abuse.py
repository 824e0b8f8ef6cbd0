"""WHIP and WHEP as no well-meaning peer speaks it: refuse, and go on."""

from __future__ import annotations

import asyncio
import gzip
import io
import time
from collections.abc import AsyncIterator

from relay.conformance.case import Book, NotOffered, holds, one_of, same
from relay.conformance.endpoint import CLIENT_ERRORS, SDP, Endpoint
from relay.conformance.offer import CANDIDATE

BOOK: Book[Endpoint] = Book(abuse=True)

case = BOOK.case

MANY = 200
REFUSED = (429, 503)


async def alive(e: Endpoint) -> None:
    """Raises Failed unless a good POST works."""
    await e.session()


@case("huge-offer", "An offer of 10 MB is 4xx, at once.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    began = time.monotonic()
    reply = await e.post(io.BytesIO(b"v=0\r\n" + b"a=x\r\n" * (2 << 20)))
    one_of("status", reply.status, CLIENT_ERRORS)
    lasted = time.monotonic() - began
    holds(lasted < 5, f"{lasted:.1f} s", "less than 5 s")
    await alive(e)


@case("endless-offer", "An offer in chunks without an end is refused at a bound.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 64 << 20:
            sent += 65536
            yield b"a=x:yyyyyyyyyyy\r" * 4096

    try:
        reply = await e.post(endless())
        one_of("status", reply.status, CLIENT_ERRORS)
    except (OSError, EOFError):
        pass  # closed in mid-body, which is a refusal too
    await alive(e)


@case("packed-offer", "A gzip offer that unpacks to 64 MiB is 4xx.", "RFC 9110 8.4")
async def _(e: Endpoint) -> None:
    packed = gzip.compress(b"v=0\r\n" + b"\0" * (64 << 20), 1)
    await e.refuses(packed, Content_Encoding="gzip")
    await alive(e)


@case(
    "odd-offers",
    "Offers with absurd numbers, lines and sections are 4xx or taken, never 5xx.",
    "RFC 9725 4.2",
)
async def _(e: Endpoint) -> None:
    good = e.offer().text
    for text in (
        good.replace("m=video 9", "m=video 99999999999999999999"),
        good.replace("a=mid:1", "a=mid:"),
        good.replace("SAVPF 96", "SAVPF " + " ".join(map(str, range(5000)))),
        good + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 3000,
        good + "a=" + "x" * 100_000 + "\r\n",
        good.replace("v=0", "v=1"),
        good.replace("\r\n", "\r\n\r\n"),
        "\0" + good,
    ):
        reply = await e.post(text)
        holds(reply.status < 500, f"{reply.status} to {text[:20]!r}", "less than 500")
    await alive(e)


@case("path-tricks", "Odd paths are 4xx.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    base = e.url.partition("?")[0].rpartition("/")[0]
    for name in ("n" * 4000, "%00", "%2e%2e%2f%2e%2e", "a%0d%0ab"):
        reply = await e.ask("POST", f"{base}/{name}", e.offer().text, Content_Type=SDP)
        one_of(name[:20], reply.status, CLIENT_ERRORS)
    await alive(e)


@case(
    "patch-flood",
    "Of two hundred PATCHes at once some are 429; the session lives.",
    "RFC 9725 5",
    limit=30.0,
)
async def _(e: Endpoint) -> None:
    session = await e.session()
    replies = await asyncio.gather(*(session.trickle(CANDIDATE) for _ in range(MANY)))
    statuses = {reply.status for reply in replies}
    if statuses <= {405, 422, 501}:
        raise NotOffered(f"trickle is not taken ({min(statuses)})")
    for status in statuses:
        one_of("status", status, (204, *REFUSED))
    holds(statuses & set(REFUSED), f"{MANY} answered with 204", "some 429")
    await session.lives()


@case(
    "post-flood",
    "A hundred offers at once are 201, or 429 or 503 with Retry-After.",
    "RFC 9725 4.5",
    limit=60.0,
)
async def _(e: Endpoint) -> None:
    replies = await asyncio.gather(*(e.post() for _ in range(MANY // 2)))
    for reply in replies:
        one_of("status", reply.status, (201, 409, *REFUSED))
        if reply.status in REFUSED:
            holds("Retry-After" in reply.headers, f"{reply.status} alone", "Retry-After")
    await alive(e)


@case(
    "come-and-go",
    "Two hundred sessions that come and go leave a server that works.",
    "RFC 9725 4.2",
    limit=60.0,
)
async def _(e: Endpoint) -> None:
    for _number in range(MANY):
        session = await e.session()
        same("DELETE", (await session.ask("DELETE")).status, 200)
        e.forget(session.url)
    await alive(e)
