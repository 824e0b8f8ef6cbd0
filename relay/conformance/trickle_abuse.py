"""Trickle as no well-meaning peer speaks it: a server must refuse, and go on."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator

from relay.conformance.case import Book, Failed, holds, one_of, same
from relay.conformance.channels import SEQ, Channel, Trickle
from relay.conformance.wire import Connection

BOOK: Book[Trickle] = Book(abuse=True)

case = BOOK.case

STALLED = 60.0
"""Seconds in which a writer that has stopped is let go."""

REFUSED = (400, 404, 405, 408, 411, 413, 414, 415, 417, 422, 429, 431, 501, 503)

CHANNELS = 5_000
READERS = 1_000
SEGMENT = 256 << 20
PATIENCE = 12.0
"""Seconds after which a segment that nobody goes on with must have ended."""


@contextlib.asynccontextmanager
async def unharmed(t: Trickle) -> AsyncIterator[Channel]:
    """A channel that must work as before when the block is over, as must the server."""
    channel = await t.channel()
    await channel.write(channel.start, b"before")
    yield channel
    await alive(t, channel)


async def alive(t: Trickle, channel: Channel) -> None:
    try:
        number = await channel.next()
        await channel.write(number, b"after")
        answer = await channel.read(number)
    except (TimeoutError, OSError, EOFError) as error:
        what = "hangs" if isinstance(error, TimeoutError) else "breaks connections"
        raise Failed(f"the channel {what} afterwards", "a channel that works") from error
    same("body afterwards", answer.body, b"after")


async def refused(connection: Connection, what: str) -> None:
    """Raises Failed unless the answer is a refusal."""
    status = await connection.says()
    if status is None:
        raise Failed(f"{what}: the connection broke without an answer", "a refusal")
    one_of(f"{what}: status", status, REFUSED)


@case("negative-get", "GET of a number under -2 is refused.", "3.9")
async def _(t: Trickle) -> None:
    async with unharmed(t) as channel:
        for number in (-3, -4, -5, -7, -(10**9)):
            await refused(await channel.get(number), f"GET {number}")


@case("negative-post", "POST to a number under -1 is refused.", "3.9")
async def _(t: Trickle) -> None:
    async with unharmed(t) as channel:
        for number in (-2, -3, -5, -(10**9)):
            connection = await t.connect()
            await connection.request("POST", channel.at(number), "Content-Length: 1", body=b"x")
            await refused(connection, f"POST {number}")


@case("negative-delete", "DELETE of a negative number is refused and wedges nothing.", "3.9")
async def _(t: Trickle) -> None:
    async with unharmed(t) as channel:
        for number in (-1, -2, -3, -5):
            connection = await t.connect()
            await connection.request("DELETE", channel.at(number))
            await refused(connection, f"DELETE {number}")


@case("huge-number", "A number beyond 63 bits is refused.", "3.9")
async def _(t: Trickle) -> None:
    async with unharmed(t) as channel:
        for number in (2**63, 2**64, 10**40):
            await refused(await channel.get(number), f"GET {str(number)[:24]}")


@case("last-number", "A write of the last 63-bit number does not make negative ones.", "3.9")
async def _(t: Trickle) -> None:
    channel = await t.fresh()
    connection = await t.connect()
    await connection.request("POST", channel.at(2**63 - 1), "Content-Length: 1", body=b"x")
    await connection.says()
    following = await channel.next()
    holds(following >= 0, f"next {following}", "a number from 0 up")


@case("stale-preconnect", "The late empty end of an old preconnect does not move next back.", "3.9")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    stale = await channel.open(channel.start)
    for ahead in (1, 2, 3):
        await channel.write(channel.start + ahead, b"x")
    await stale.finish()
    same("next", await channel.next(), channel.start + 4)


@case(
    "vanished-writer",
    "Readers of a segment whose writer vanished come to an end.",
    "3.9",
    limit=30.0,
)
async def _(t: Trickle) -> None:
    async with unharmed(t) as channel:
        number = await channel.next()
        reader = await channel.get(number)
        writer = await channel.open(number)
        await writer.piece(b"half")
        await reader.head()
        writer.abort()
        try:
            await reader.bytes(1 << 20, PATIENCE)
        except TimeoutError:
            raise Failed(f"readers that hang for {PATIENCE:.0f} s", "their end") from None


@case(
    "lying-length",
    "A body shorter than its Content-Length does not hold readers.",
    "3.9",
    limit=30.0,
)
async def _(t: Trickle) -> None:
    async with unharmed(t) as channel:
        number = await channel.next()
        reader = await channel.get(number)
        writer = await t.connect()
        await writer.request("POST", channel.at(number), "Content-Length: 1000", body=b"half")
        writer.half_close()
        await reader.head()
        try:
            await reader.bytes(1 << 20, PATIENCE)
        except TimeoutError:
            raise Failed(f"readers that hang for {PATIENCE:.0f} s", "their end") from None


@case(
    "stalled-writer",
    "A writer that stops half-way is let go within a minute.",
    "3.9",
    slow=True,
    limit=90.0,
)
async def _(t: Trickle) -> None:
    async with unharmed(t) as channel:
        number = await channel.next()
        reader = await channel.get(number)
        writer = await channel.open(number)
        await writer.piece(b"half")
        await reader.head()
        try:
            await reader.bytes(1 << 20, STALLED)
        except TimeoutError:
            raise Failed(f"a segment that is open after {STALLED:.0f} s", "its end") from None


@case(
    "two-lengths",
    "Content-Length beside chunks, two lengths or a bad one are refused.",
    "RFC 9112 6",
)
async def _(t: Trickle) -> None:
    async with unharmed(t) as channel:
        number = await channel.next()
        for headers, body in (
            (("Content-Length: 3", "Content-Length: 5"), b"abcde"),
            (("Content-Length: -1",), b""),
            (("Content-Length: 99999999999999999999999",), b""),
            (("Content-Length: 0x3",), b"abc"),
            (("Transfer-Encoding: gzip",), b"abc"),
        ):
            connection = await t.connect()
            await connection.request("POST", channel.at(number), *headers, body=body)
            await refused(connection, headers[-1])


@case(
    "bad-chunks",
    "Chunks that lie about their size are refused, or the connection closed.",
    "RFC 9112 7",
)
async def _(t: Trickle) -> None:
    async with unharmed(t) as channel:
        number = await channel.next()
        for ahead, chunk in enumerate((b"zz\r\nabc\r\n", b"-5\r\nabc\r\n", b"2\r\nabcdef\r\n")):
            connection = await channel.open(number + ahead)
            await connection.send(chunk)
            status = await connection.says(PATIENCE)
            holds(status is None or status >= 400, f"{chunk!r}: {status}", "a refusal")


@case("header-flood", "A megabyte of headers is refused, or the connection closed.", "RFC 9110 5.4")
async def _(t: Trickle) -> None:
    async with unharmed(t) as channel:
        for headers in (
            [f"X-{number}: {'x' * 100}" for number in range(20_000)],
            [f"X-One: {'x' * (2 << 20)}"],
        ):
            connection = await t.connect()
            status = None
            with contextlib.suppress(ConnectionError):
                await connection.request("GET", channel.at("next"), *headers)
                status = await connection.says()
            holds(status is None or status >= 400, f"status {status}", "a refusal")


@case(
    "half-a-head", "Two hundred connections with half a request do not stop others.", "RFC 9112 9.5"
)
async def _(t: Trickle) -> None:
    async with unharmed(t) as channel:
        for _number in range(200):
            connection = await t.connect()
            await connection.send(f"GET {channel.at('next')} HTTP/1.1\r\nHost:".encode())


@case("path-tricks", "Odd paths are refused; none is an error of the server's own.", "3.2")
async def _(t: Trickle) -> None:
    async with unharmed(t):
        base = t.target.path
        for path in (
            f"{base}../0",
            f"{base}..%2f..%2fetc%2fpasswd/0",
            f"{base}%2e%2e/0",
            f"{base}%00/0",
            f"{base}a%0d%0ab/0",
            f"{base}{'n' * 4000}/0",
            f"{base}.hidden/0",
            f"{base}a/b/0",
            f"{base}%ff%fe/0",
        ):
            connection = await t.connect()
            await connection.request("GET", path)
            status = await connection.says()
            what = f"GET {path[:40]}"
            holds(status is not None, f"{what}: the connection broke", "a refusal")
            holds(status is not None and 300 <= status < 500, f"{what}: {status}", "a 4xx")


@case("odd-names", "Names with control characters or of 4 KB make no channel.", "3.2")
async def _(t: Trickle) -> None:
    async with unharmed(t):
        for name in ("n" * 4000, "%00", "a%0d%0aX-Evil:%201", "%2e%2e"):
            path = f"{t.target.path}{name}"
            connection = await t.connect()
            await connection.request("POST", path, "Expect-Content: a/b", "Content-Length: 0")
            status = await connection.says()
            if status == 200:
                await t.ask("DELETE", path)
            holds(status is not None and status >= 300, f"{name[:24]}: {status}", "a refusal")


@case("evil-type", "A content type of a megabyte or of odd bytes is not handed on.", "3.2")
async def _(t: Trickle) -> None:
    async with unharmed(t):
        for mime in ("x" * 60_000, "a/b\x07c", "text/html; \x7f"):
            path = f"{t.target.path}{secrets.token_hex(8)}"
            connection = await t.connect()
            await connection.request("POST", path, f"Expect-Content: {mime}", "Content-Length: 0")
            if await connection.says() == 200:
                await t.ask("POST", f"{path}/0", body=b"x")
                kind = (await t.ask("GET", f"{path}/0")).headers.get("content-type", "")
                await t.ask("DELETE", path)
                holds(kind != mime, f"{mime[:16]!r} handed on", "another type, or a refusal")


@case("packed-body", "A gzip body is refused or kept as it is: its size does not grow.", "3.3")
async def _(t: Trickle) -> None:
    import gzip

    async with unharmed(t) as channel:
        number = await channel.next()
        data = gzip.compress(b"\0" * (16 << 20))
        path = channel.at(number)
        answer = await t.ask("POST", path, "Content-Encoding: gzip", body=data)
        if answer.status == 200:
            got = await channel.read(number)
            holds(len(got.body) <= len(data), f"{len(got.body)} bytes", f"{len(data)} bytes")
        else:
            one_of("status", answer.status, REFUSED)


@case("endless-segment", "A segment of 256 MiB is ended at a bound.", "3.1", limit=60.0)
async def _(t: Trickle) -> None:
    async with unharmed(t) as channel:
        number = await channel.next()
        connection = await channel.open(number)
        data = b"x" * (1 << 20)
        sent = 0
        with contextlib.suppress(ConnectionError, TimeoutError):
            while sent < SEGMENT:
                await connection.piece(data)
                sent += len(data)
            await connection.end()
        try:
            status = await connection.says()
        except TimeoutError:
            status = None
        holds(status != 200, f"200 for {sent >> 20} MiB", "a refusal, or a closed connection")


@case("many-channels", "Channels are bounded: of 5,000 some are refused.", "3.1", limit=90.0)
async def _(t: Trickle) -> None:
    first = await t.fresh()
    made: list[str] = []
    status = 200
    connection = await t.connect()
    for _number in range(CHANNELS):
        path = f"{t.target.path}{secrets.token_hex(8)}"
        await connection.request("POST", path, "Expect-Content: a/b", "Content-Length: 0")
        answer = await connection.answer()
        status = answer.status
        if status != 200:
            break
        made.append(path)
    connection = await t.connect()
    for path in made:
        await connection.request("DELETE", path)
        await connection.answer()
    await alive(t, first)
    one_of(f"after {len(made)} channels: status", status, REFUSED)


@case(
    "crowd",
    "A thousand readers of one segment are served, or refused with a word.",
    "3.10",
    limit=60.0,
)
async def _(t: Trickle) -> None:
    async with unharmed(t) as channel:
        number = await channel.next()
        readers = []
        for _count in range(READERS):
            reader = await t.connect()
            await reader.request("GET", channel.at(number))
            readers.append(reader)
        await t.settle()
        answer = await channel.write(number, b"x")
        same(SEQ, answer.headers.get(SEQ), str(number))
        for reader in readers:
            one_of("status", await reader.says(), (200, 429, 503))


@case("reader-that-takes-nothing", "A reader that takes nothing does not hold the others.", "3.4")
async def _(t: Trickle) -> None:
    async with unharmed(t) as channel:
        number = await channel.next()
        for _count in range(10):
            await channel.get(number)
        data = b"x" * (12 << 20)
        other = await channel.get(number)
        answer = await t.ask("POST", channel.at(number), body=data)
        if answer.status == 200:
            same("bytes", len((await other.answer()).body), len(data))
        else:
            one_of("status", answer.status, REFUSED)
