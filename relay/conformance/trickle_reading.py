"""The trickle cases: sequence numbers, and what a GET gets."""

from __future__ import annotations

import asyncio

from relay.conformance.case import Book, holds, one_of, same
from relay.conformance.channels import CLOSED, LATEST, SEQ, SLOTS, Trickle

BOOK: Book[Trickle] = Book()

case = BOOK.case

BIG = 8 << 20


@case("next-is-the-first-number", "A new channel's next segment is 0.", "3.2")
async def _(t: Trickle) -> None:
    channel = await t.fresh()
    answer = await t.ask("GET", channel.at("next"))
    same("status", answer.status, 200)
    same("body", answer.body.strip(), b"0")


@case("next-tells-latest", "GET next names the number in Lp-Trickle-Latest too.", "3.2")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    await channel.write(channel.start, b"x")
    answer = await t.ask("GET", channel.at("next"))
    same("body", answer.body.strip(), str(channel.start + 1).encode())
    same(LATEST, answer.headers.get(LATEST), str(channel.start + 1))


@case("post-tells-its-number", "The answer to a POST carries Lp-Trickle-Seq.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    answer = await channel.write(channel.start, b"x")
    same(SEQ, answer.headers.get(SEQ), str(channel.start))


@case("post-latest", "POST -1 writes the next segment.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    for sequence in range(channel.start, channel.start + 2):
        answer = await channel.write(-1, b"x")
        same(SEQ, answer.headers.get(SEQ), str(sequence))


@case("post-ahead", "A publisher may go on at any later number.", "3.3")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    ahead = channel.start + 40
    same(SEQ, (await channel.write(ahead, b"x")).headers.get(SEQ), str(ahead))
    same("next", await channel.next(), ahead + 1)
    same("body", (await channel.read(ahead)).body, b"x")


@case("post-behind", "A restarted publisher's lower number moves next back.", "3.1")
async def _(t: Trickle) -> None:
    channel = await t.fresh()
    await channel.write(20, b"old")
    await channel.write(1, b"new")
    same("next", await channel.next(), 2)
    same("body", (await channel.read(1)).body, b"new")


@case("get-latest", "GET -1 waits for the segment that begins next.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    await channel.write(channel.start, b"before")
    reader = await channel.get(-1)
    await channel.write(channel.start + 1, b"after")
    answer = await reader.answer()
    same(SEQ, answer.headers.get(SEQ), str(channel.start + 1))
    same("body", answer.body, b"after")


@case("get-current", "GET -2 reads the segment begun most recently.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    await channel.write(channel.start, b"a")
    await channel.write(channel.start + 1, b"b")
    answer = await channel.read(-2)
    same(SEQ, answer.headers.get(SEQ), str(channel.start + 1))
    same("body", answer.body, b"b")


@case("get-current-of-none", "GET -2 on a new channel waits for segment 0.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.fresh()
    reader = await channel.get(-2)
    await channel.write(0, b"x")
    answer = await reader.answer()
    same(SEQ, answer.headers.get(SEQ), "0")
    same("body", answer.body, b"x")


@case("get-next-waits", "GET of the next number waits for it.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    reader = await channel.get(channel.start)
    await channel.write(channel.start, b"x")
    same("body", (await reader.answer()).body, b"x")


@case("get-one-of-none", "GET 1 on a new channel waits, for publishers that begin at 1.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.fresh()
    reader = await channel.get(1)
    await channel.write(1, b"x")
    answer = await reader.answer()
    same("status", answer.status, 200)
    same("body", answer.body, b"x")


@case("get-preconnected", "A number that a publisher has opened can be waited for.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    writer = await channel.open(channel.start + 3)
    reader = await channel.get(channel.start + 3)
    await writer.piece(b"x")
    await writer.finish()
    same("body", (await reader.answer()).body, b"x")


@case("gone-ahead", "A number too far ahead is 470, with the latest and the asked number.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    await channel.write(channel.start, b"x")
    asked = channel.start + 12
    answer = await channel.read(asked)
    same("status", answer.status, 470)
    same(LATEST, answer.headers.get(LATEST), str(channel.start + 1))
    same(SEQ, answer.headers.get(SEQ), str(asked))


@case("gone-behind", "A segment whose slot was taken is 470, with the latest.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    for sequence in range(channel.start, channel.start + SLOTS + 1):
        await channel.write(sequence, b"x")
    answer = await channel.read(channel.start)
    same("status", answer.status, 470)
    same(LATEST, answer.headers.get(LATEST), str(channel.start + SLOTS + 1))


@case("five-are-kept", "The last five segments can still be read.", "3.1")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    numbers = range(channel.start, channel.start + SLOTS)
    for sequence in numbers:
        await channel.write(sequence, b"n%d" % sequence)
    for sequence in numbers:
        same("body", (await channel.read(sequence)).body, b"n%d" % sequence)


@case("drop-to-latest", "A reader that fell behind goes on at the number of the 470.", "3.7")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    for sequence in range(channel.start, channel.start + SLOTS + 3):
        await channel.write(sequence, b"x")
    gone = await channel.read(channel.start)
    same("status", gone.status, 470)
    latest = int(gone.headers.get(LATEST, "-9"))
    reader = await channel.get(latest)
    await channel.write(latest, b"live")
    same("body", (await reader.answer()).body, b"live")


@case("get-tells-its-number", "Every GET of a segment carries Lp-Trickle-Seq.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    await channel.write(channel.start, b"x")
    await channel.write(channel.start + 1, b"")
    for asked, effective in ((0, 0), (1, 1), (-2, 1)):
        number = channel.start + asked if asked >= 0 else asked
        answer = await channel.read(number)
        same(f"{SEQ} of {asked}", answer.headers.get(SEQ), str(channel.start + effective))


@case("latest-of-an-old-one", "GET of a segment that was not the next tells the latest.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    await channel.write(channel.start, b"x")
    await channel.write(channel.start + 1, b"x")
    answer = await channel.read(channel.start)
    same(LATEST, answer.headers.get(LATEST), str(channel.start + 2))


@case("no-latest-of-the-next", "GET of the next segment carries no Lp-Trickle-Latest.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    reader = await channel.get(channel.start)
    await channel.write(channel.start, b"x")
    same(LATEST, (await reader.answer()).headers.get(LATEST), None)


@case("silent-before-the-first-byte", "A GET has no answer at all until the first byte.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    waiting = await channel.get(channel.start)
    await channel.open(channel.start)
    holds(await waiting.silent(3 * t.target.patience), "an early answer", "silence")


@case("first-byte-before-the-end", "Bytes reach a reader while the POST goes on.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    reader = await channel.get(channel.start)
    writer = await channel.open(channel.start)
    await writer.piece(b"first")
    same("status", (await reader.head()).status, 200)
    same("bytes", await reader.bytes(5), b"first")
    await writer.piece(b"second")
    same("bytes", await reader.bytes(6), b"second")
    await writer.finish()
    same("bytes after the end", await reader.chunk(), b"")


@case("each-chunk-at-once", "Each chunk reaches the reader before the next is sent.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    reader = await channel.get(channel.start)
    writer = await channel.open(channel.start)
    for number in range(50):
        await writer.piece(b"%05d" % number)
        if number == 0:
            await reader.head()
        same("bytes", await reader.bytes(5), b"%05d" % number)
    await writer.finish()


@case("late-reader", "A late reader gets all from the beginning, then the live rest.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    writer = await channel.open(channel.start)
    await writer.piece(b"early ")
    await t.settle()
    reader = await channel.get(channel.start)
    await reader.head()
    same("bytes", await reader.bytes(6), b"early ")
    await writer.piece(b"late")
    same("bytes", await reader.bytes(4), b"late")


@case("many-readers", "Twenty readers of one segment get the same bytes.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    readers = [await t.connect() for _ in range(20)]
    for reader in readers:
        await reader.request("GET", channel.at(channel.start))
    await t.settle()
    data = bytes(range(256)) * 200
    await channel.write(channel.start, data)
    answers = await asyncio.gather(*(reader.answer() for reader in readers))
    same("whole answers", sum(answer.body == data for answer in answers), 20)


@case("a-reader-leaves", "A reader that leaves does not disturb the others.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    leaving, staying = await channel.get(channel.start), await channel.get(channel.start)
    writer = await channel.open(channel.start)
    await writer.piece(b"one")
    await leaving.head()
    leaving.abort()
    await t.settle()
    await writer.piece(b"two")
    same("status", (await writer.finish()).status, 200)
    same("body", (await staying.answer()).body, b"onetwo")


@case("a-reader-comes-again", "A GET that was given up and asked again is served.", "3.8")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    first = await channel.get(channel.start)
    first.abort()
    second = await channel.get(channel.start)
    await channel.write(channel.start, b"x")
    same("body", (await second.answer()).body, b"x")


@case(
    "a-slow-reader-ends-its-segment", "Whoever reads a segment that is pushed out gets it.", "3.4"
)
async def _(t: Trickle) -> None:
    channel = await t.channel()
    data = b"x" * BIG
    await channel.write(channel.start, data)
    reader = await channel.get(channel.start)
    await reader.head()
    for sequence in range(channel.start + 1, channel.start + SLOTS + 2):
        await channel.write(sequence, b"y")
    same("bytes", len(await reader.bytes(BIG)), BIG)


@case("big-segment", "8 MiB arrive whole and in order.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    data = b"".join(number.to_bytes(4, "big") for number in range(BIG // 4))
    reader = await channel.get(channel.start)
    await channel.write(channel.start, data)
    holds((await reader.answer()).body == data, "other bytes", "the bytes that were sent")
    holds((await channel.read(channel.start)).body == data, "other bytes later", "the same bytes")


@case("small-pieces", "Three thousand chunks of one byte arrive as sent.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    writer = await channel.open(channel.start)
    data = bytes(number % 251 for number in range(3000))
    await writer.send(b"".join(b"1\r\n%c\r\n" % byte for byte in data))
    await writer.finish()
    same("body", (await channel.read(channel.start)).body, data)


@case("empty-segment", "An empty body is a segment: 200, its number, the latest, no byte.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    reader = await channel.get(channel.start)
    answer = await channel.write(channel.start, b"")
    same(SEQ, answer.headers.get(SEQ), str(channel.start))
    for got in (await reader.answer(), await channel.read(channel.start)):
        one_of("status", got.status, [200])
        same("body", got.body, b"")
        same(SEQ, got.headers.get(SEQ), str(channel.start))
        same(LATEST, got.headers.get(LATEST), str(channel.start + 1))
        same(CLOSED, got.headers.get(CLOSED), None)


@case("empty-segment-has-no-type", "An empty segment's answer has no Content-Type.", "7.6")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    await channel.write(channel.start, b"")
    same("content-type", (await channel.read(channel.start)).headers.get("content-type"), None)
