"""The trickle cases: what a POST does."""

from __future__ import annotations

from relay.conformance.case import Book, holds, one_of, same
from relay.conformance.channels import LATEST, RESET, SEQ, SLOTS, Trickle

BOOK: Book[Trickle] = Book()

case = BOOK.case

KEEPALIVE = 12.0
"""Seconds in which a waiting writer hears 100 Continue again; servers say it each 10 s."""

WAITS = 35.0
"""Seconds that a request waits, longer than any client's own patience."""


@case("preconnect-does-not-count", "An open POST without a byte does not move next.", "3.1")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    writer = await channel.open(channel.start)
    same("next", await channel.next(), channel.start)
    await writer.piece(b"x")
    await writer.finish()
    same("next", await channel.next(), channel.start + 1)


@case("first-byte-counts", "The first byte moves next, before the segment ends.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    writer = await channel.open(channel.start)
    await writer.piece(b"x")
    await t.settle()
    same("next", await channel.next(), channel.start + 1)


@case("empty-end-counts", "The empty end of a segment moves next.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    writer = await channel.open(channel.start)
    same("status", (await writer.finish()).status, 200)
    same("next", await channel.next(), channel.start + 1)


@case("two-at-once", "The next segment is preconnected while this one is written.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    this = await channel.open(channel.start)
    await this.piece(b"a")
    following = await channel.open(channel.start + 1)
    await this.piece(b"b")
    same("status", (await this.finish()).status, 200)
    await following.piece(b"c")
    answer = await following.finish()
    same(SEQ, answer.headers.get(SEQ), str(channel.start + 1))
    same("body", (await channel.read(channel.start)).body, b"ab")
    same("body", (await channel.read(channel.start + 1)).body, b"c")


@case("answered-at-the-end", "A POST is answered when its body ends, not before.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    writer = await channel.open(channel.start)
    await writer.piece(b"x")
    holds(await writer.silent(3 * t.target.patience), "an answer before the end", "silence")
    other = await channel.open(channel.start + 1)
    await other.piece(b"x")
    same("status", (await other.finish()).status, 200)


@case("preconnect-is-not-answered", "A POST without a byte waits without an answer.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    writer = await channel.open(channel.start)
    holds(await writer.silent(3 * t.target.patience), "an early answer", "silence")


@case("known-length", "A POST with Content-Length is a segment like any other.", "3.2")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    answer = await t.ask("POST", channel.at(channel.start), body=b"0123456789")
    same("status", answer.status, 200)
    same("body", (await channel.read(channel.start)).body, b"0123456789")


@case("post-keeps-its-connection", "One connection carries one POST after another.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    writer = await t.connect()
    for sequence in range(channel.start, channel.start + 4):
        await writer.request("POST", channel.at(sequence), "Transfer-Encoding: chunked")
        await writer.piece(b"n%d" % sequence)
        answer = await writer.finish()
        same(SEQ, answer.headers.get(SEQ), str(sequence))
    same("body", (await channel.read(channel.start + 3)).body, b"n%d" % (channel.start + 3))


@case("connection-close", "Connection: close is honoured after the answer to a POST.", "3.8")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    writer = await channel.open(channel.start, "Connection: close")
    await writer.piece(b"x")
    same("status", (await writer.finish()).status, 200)
    holds(await writer.closes(), "an open connection", "a closed one")


@case("expect-continue", "Expect: 100-continue is answered and the body taken.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    writer = await t.connect()
    await writer.request(
        "POST", channel.at(channel.start), "Expect: 100-continue", "Content-Length: 4"
    )
    same("first answer", await writer.interim(), 100)
    await writer.send(b"data")
    same("status", (await writer.answer()).status, 200)
    same("body", (await channel.read(channel.start)).body, b"data")


@case("any-content-type", "Any Content-Type is taken, and none.", "3.8")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    kinds = ("Content-Type: application/json", "Content-Type: nonsense", "X-None: 1")
    for number, kind in enumerate(kinds):
        path = channel.at(channel.start + number)
        same(kind, (await t.ask("POST", path, kind, body=b"{}")).status, 200)


@case("append-to-an-open-one", "A second POST to an open segment appends to it.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    reader = await channel.get(channel.start)
    first = await channel.open(channel.start)
    await first.piece(b"one ")
    await t.settle()
    second = await channel.open(channel.start)
    await second.piece(b"two")
    answer = await second.finish()
    same("status", answer.status, 200)
    same("body", (await reader.answer()).body, b"one two")


@case("post-to-a-finished-one", "A POST to a finished segment is 200 and its bytes lost.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    await channel.write(channel.start, b"whole")
    again = await channel.open(channel.start)
    await again.send(b"5\r\nlater\r\n0\r\n\r\n")
    same("status", (await again.answer()).status, 200)
    same("body", (await channel.read(channel.start)).body, b"whole")
    same("next", await channel.next(), channel.start + 1)


@case("slot-reuse-ends-the-old-one", "A segment five later ends an open one's readers.", "3.1")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    reader = await channel.get(channel.start)
    writer = await channel.open(channel.start)
    await writer.piece(b"half")
    await reader.head()
    same("bytes", await reader.bytes(4), b"half")
    await channel.write(channel.start + SLOTS, b"x")
    same("bytes after it", await reader.chunk(), b"")
    same("status", (await channel.read(channel.start)).status, 470)


@case("slot-reuse-by-a-lower-number", "A lower number too takes the slot of a higher.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.fresh()
    await channel.write(9, b"old")
    await channel.write(4, b"new")
    same("body", (await channel.read(4)).body, b"new")
    same("status", (await channel.read(9)).status, 470)


@case("reset-ends-older-ones", "Lp-Trickle-Reset ends half-written older segments.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    reader = await channel.get(channel.start)
    writer = await channel.open(channel.start)
    await writer.piece(b"half")
    await reader.head()
    same("bytes", await reader.bytes(4), b"half")
    fresh = await channel.open(channel.start + 1, RESET)
    same("bytes after the reset", await reader.chunk(), b"")
    await fresh.piece(b"new")
    same("status", (await fresh.finish()).status, 200)
    same("body", (await channel.read(channel.start + 1)).body, b"new")


@case("reset-keeps-later-ones", "Lp-Trickle-Reset leaves later segments open.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    later = await channel.open(channel.start + 2)
    await later.piece(b"on")
    reader = await channel.get(channel.start + 2)
    await reader.head()
    same("bytes", await reader.bytes(2), b"on")
    await channel.write(channel.start + 1, b"x", RESET)
    await later.piece(b"going")
    same("bytes", await reader.bytes(5), b"going")


@case("reset-answers-a-preconnect", "A reset answers an older POST that waits.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    waiting = await channel.open(channel.start)
    await channel.write(channel.start + 1, b"x", RESET)
    same("status", (await waiting.answer()).status, 200)


@case("delete-ends-a-segment", "DELETE of a number ends its readers.", "3.2")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    reader = await channel.get(channel.start)
    writer = await channel.open(channel.start)
    await writer.piece(b"half")
    await reader.head()
    same("bytes", await reader.bytes(4), b"half")
    same("DELETE", (await channel.delete(channel.start)).status, 200)
    same("bytes after it", await reader.chunk(), b"")


@case("delete-answers-a-preconnect", "DELETE of a number answers a POST that waits.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    waiting = await channel.open(channel.start)
    same("DELETE", (await channel.delete(channel.start)).status, 200)
    answer = await waiting.answer()
    same("status", answer.status, 200)
    same(SEQ, answer.headers.get(SEQ), str(channel.start))


@case("delete-of-an-empty-one-ends-readers", "DELETE of an open number ends who waits.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    await channel.open(channel.start)
    reader = await channel.get(channel.start)
    same("DELETE", (await channel.delete(channel.start)).status, 200)
    answer = await reader.answer()
    same("status", answer.status, 200)
    same("body", answer.body, b"")
    holds(LATEST in answer.headers, "no Lp-Trickle-Latest", "Lp-Trickle-Latest")


@case("vanished-preconnect", "A writer that vanishes before its first byte changes nothing.", "3.8")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    vanishing = await channel.open(channel.start)
    vanishing.abort()
    await t.settle()
    same("next", await channel.next(), channel.start)
    reader = await channel.get(channel.start)
    await channel.write(channel.start, b"again")
    same("body", (await reader.answer()).body, b"again")


@case("retry-goes-on", "A writer that vanished half-way is taken up by a new POST.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    reader = await channel.get(channel.start)
    writer = await channel.open(channel.start)
    await writer.piece(b"one ")
    await reader.head()
    same("bytes", await reader.bytes(4), b"one ")
    writer.abort()
    await t.settle()
    await channel.write(channel.start, b"two")
    same("bytes", await reader.bytes(3), b"two")
    same("bytes after it", await reader.chunk(), b"")


@case(
    "keepalive-while-idle",
    "A POST without a byte gets 100 Continue every 10 s.",
    "3.3",
    slow=True,
    limit=40.0,
)
async def _(t: Trickle) -> None:
    channel = await t.channel()
    writer = await t.connect()
    await writer.request("POST", channel.at(channel.start), "Transfer-Encoding: chunked")
    for _number in range(2):
        same("interim answer", await writer.interim(KEEPALIVE), 100)
    await writer.piece(b"x")
    same("status", (await writer.finish()).status, 200)


@case(
    "waits-for-ever",
    "A GET and a POST without a byte wait 35 s without a final answer.",
    "3.8",
    slow=True,
    limit=60.0,
)
async def _(t: Trickle) -> None:
    channel = await t.channel()
    reader = await channel.get(channel.start)
    writer = await channel.open(channel.start)
    holds(await reader.silent(WAITS), "an answer", "silence")
    reader.abort()
    again = await channel.get(channel.start)
    await writer.piece(b"x")
    answer = await writer.finish()
    one_of("status", answer.status, [200])
    same("body", (await again.answer()).body, b"x")
