"""The trickle cases: channels' lives, refusals, and plain HTTP."""

from __future__ import annotations

import asyncio
import time

from relay.conformance.case import Book, Failed, NotOffered, holds, one_of, same
from relay.conformance.channels import CLOSED, LATEST, SEQ, Trickle

BOOK: Book[Trickle] = Book()

case = BOOK.case

TERMINATED = "terminated"
IDLE = 300.0
SWEEP = 60.0


@case("create", "POST to a channel's path makes it: 200, without a body.", "3.2")
async def _(t: Trickle) -> None:
    channel = await t.fresh()
    same("next", await channel.next(), 0)


@case("create-again", "To make a channel that is there changes nothing.", "3.2")
async def _(t: Trickle) -> None:
    channel = await t.fresh("application/json")
    await channel.write(0, b"{}")
    again = await t.ask("POST", channel.path, "Expect-Content: video/MP2T")
    same("status", again.status, 200)
    answer = await channel.read(0)
    same("body", answer.body, b"{}")
    same("content-type", answer.headers.get("content-type"), "application/json")


@case("content-type-of-creation", "A GET has the channel's type, not the POST's.", "3.4")
async def _(t: Trickle) -> None:
    channel = await t.fresh("application/json")
    await channel.write(0, b"{}", "Content-Type: video/MP2T")
    same("content-type", (await channel.read(0)).headers.get("content-type"), "application/json")


@case("channels-are-apart", "What is written to one channel is not in another.", "3.1")
async def _(t: Trickle) -> None:
    channels = [await t.fresh() for _ in range(8)]
    for number, channel in enumerate(channels):
        await channel.write(0, b"n%d" % number)
    bodies = [(await channel.read(0)).body for channel in channels]
    same("bodies", bodies, [b"n%d" % number for number in range(8)])


@case("no-channel-get", "GET of a segment of no channel is 404.", "3.2")
async def _(t: Trickle) -> None:
    same("status", (await t.ask("GET", f"{t.absent()}/0")).status, 404)
    same("status", (await t.ask("GET", f"{t.absent()}/-1")).status, 404)


@case("no-channel-next", "GET next of no channel is 404.", "3.2")
async def _(t: Trickle) -> None:
    same("status", (await t.ask("GET", f"{t.absent()}/next")).status, 404)


@case("no-channel-post", "POST to no channel is 404 and closes the connection.", "3.2")
async def _(t: Trickle) -> None:
    path = t.absent()
    answer = await t.ask("POST", f"{path}/0", body=b"x")
    if answer.status == 200:
        await t.ask("DELETE", path)
        raise NotOffered("a POST to a segment makes the channel")
    same("status", answer.status, 404)
    same("connection", answer.headers.get("connection", "").lower(), "close")


@case("no-channel-delete", "DELETE of no channel is 400, of its segment 404.", "3.2")
async def _(t: Trickle) -> None:
    same("DELETE of a channel", (await t.ask("DELETE", t.absent())).status, 400)
    same("DELETE of a segment", (await t.ask("DELETE", f"{t.absent()}/0")).status, 404)


@case("get-no-number", "GET of what is no number is 400.", "3.2")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    for word in ("abc", "1.5", "0x1"):
        same(f"GET {word}", (await t.ask("GET", channel.at(word))).status, 400)


@case("post-no-number", "POST to what is no number is 400.", "3.2")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    same("status", (await t.ask("POST", channel.at("abc"), body=b"x")).status, 400)
    same("next", await channel.next(), channel.start)


@case("delete-no-number", "DELETE of what is no number, or of no segment, is 400.", "3.2")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    same("DELETE abc", (await t.ask("DELETE", channel.at("abc"))).status, 400)
    same("DELETE of an absent one", (await channel.delete(channel.start + 33)).status, 400)


@case("errors-are-text", "The body of a refusal is plain text that ends with a new line.", "3.2")
async def _(t: Trickle) -> None:
    answer = await t.ask("GET", f"{t.absent()}/0")
    kind = answer.headers.get("content-type", "")
    holds(kind.startswith("text/plain"), f"content-type {kind}", "content-type text/plain")
    holds(answer.body.endswith(b"\n"), f"body {answer.body!r}", "a new line at its end")


@case("options", "OPTIONS is 405 with Allow.", "7.6")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    answer = await t.ask("OPTIONS", channel.at(0))
    same("status", answer.status, 405)
    holds("GET" in answer.headers.get("allow", ""), "no Allow", "Allow with GET")


@case("head", "HEAD is answered like GET, without the body.", "7.6")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    await channel.write(channel.start, b"x")
    answer = await t.ask("HEAD", channel.at("next"))
    same("status", answer.status, 200)
    same(LATEST, answer.headers.get(LATEST), str(channel.start + 1))
    answer = await t.ask("HEAD", channel.at(channel.start))
    same("status", answer.status, 200)
    same(SEQ, answer.headers.get(SEQ), str(channel.start))


@case("no-compression", "Accept-Encoding: gzip changes nothing: bytes come as they are.", "7.6")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    data = b"a" * 20_000
    await channel.write(channel.start, data)
    answer = await channel.read(channel.start, "Accept-Encoding: gzip, deflate, br")
    same("content-encoding", answer.headers.get("content-encoding", "identity"), "identity")
    holds(answer.body == data, "other bytes", "the bytes that were sent")


@case("get-keeps-its-connection", "One connection carries one GET after another.", "3.10")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    reader = await t.connect()
    for sequence in range(channel.start, channel.start + 4):
        await channel.write(sequence, b"n%d" % sequence)
        await reader.request("GET", channel.at(sequence))
        same("body", (await reader.answer()).body, b"n%d" % sequence)


@case("many-connections", "Sixty requests of one channel wait side by side.", "3.10")
async def _(t: Trickle) -> None:
    channel = await t.channel()
    readers = [await t.connect() for _ in range(56)]
    for reader in readers:
        await reader.request("GET", channel.at(channel.start))
    writers = [await channel.open(channel.start + number) for number in range(4)]
    await writers[0].piece(b"x")
    same("status", (await writers[0].finish()).status, 200)
    answers = await asyncio.gather(*(reader.answer() for reader in readers))
    same("answers", {(answer.status, answer.body) for answer in answers}, {(200, b"x")})


@case("close", "DELETE of a channel is 200, and all of it 404 afterwards.", "3.5")
async def _(t: Trickle) -> None:
    channel = await t.fresh()
    await channel.write(0, b"x")
    same("DELETE", (await channel.delete()).status, 200)
    for path in ("0", "-1", "-2", "next"):
        same(f"GET {path}", (await t.ask("GET", channel.at(path))).status, 404)


@case("next-of-a-closed-one", "GET next of a closed channel is 404, or tells the closing.", "3.2")
async def _(t: Trickle) -> None:
    channel = await t.fresh()
    await channel.write(0, b"x")
    await channel.delete()
    answer = await t.ask("GET", channel.at("next"))
    if answer.status == 200:
        same(CLOSED, answer.headers.get(CLOSED), TERMINATED)
    else:
        same("status", answer.status, 404)


@case("close-twice", "The second DELETE of a channel is 400.", "3.2")
async def _(t: Trickle) -> None:
    channel = await t.fresh()
    await channel.delete()
    same("status", (await channel.delete()).status, 400)


@case("close-ends-waiting-readers", "Readers that wait get 200, closed, and no byte.", "3.5")
async def _(t: Trickle) -> None:
    channel = await t.fresh()
    reader = await channel.get(0)
    await channel.delete()
    answer = await reader.answer()
    same("status", answer.status, 200)
    same(CLOSED, answer.headers.get(CLOSED), TERMINATED)
    same("body", answer.body, b"")


@case("close-ends-reading", "A segment that is read half-way ends cleanly.", "3.5")
async def _(t: Trickle) -> None:
    channel = await t.fresh()
    reader = await channel.get(0)
    writer = await channel.open(0)
    await writer.piece(b"half")
    await reader.head()
    same("bytes", await reader.bytes(4), b"half")
    await channel.delete()
    same("bytes after it", await reader.chunk(), b"")


@case("close-answers-preconnects", "A POST that waits is answered 200 and closed.", "3.5")
async def _(t: Trickle) -> None:
    channel = await t.fresh()
    writer = await channel.open(0)
    await channel.delete()
    answer = await writer.answer()
    same("status", answer.status, 200)
    same(CLOSED, answer.headers.get(CLOSED), TERMINATED)
    same(SEQ, answer.headers.get(SEQ), "0")


@case("post-after-the-close", "A POST to a closed channel is 404.", "3.5")
async def _(t: Trickle) -> None:
    channel = await t.fresh()
    await channel.delete()
    answer = await t.ask("POST", channel.at(0), body=b"x")
    if answer.status == 200 and answer.headers.get(CLOSED) is None:
        await channel.delete()
        raise NotOffered("a POST to a segment makes the channel")
    one_of("status", answer.status, [404, 200])


@case("name-again", "A closed channel's name can be made anew, and begins at 0.", "3.5")
async def _(t: Trickle) -> None:
    channel = await t.fresh()
    await channel.write(0, b"old")
    await channel.delete()
    again = await t.ask("POST", channel.path, "Expect-Content: text/plain")
    same("status", again.status, 200)
    same("next", await channel.next(), 0)
    await channel.write(0, b"new")
    answer = await channel.read(0)
    same("body", answer.body, b"new")
    same("content-type", answer.headers.get("content-type"), "text/plain")


@case(
    "idle-sweep",
    "A channel without a new segment for 5 minutes is closed and removed.",
    "3.5",
    slow=True,
    limit=IDLE + 3 * SWEEP,
)
async def _(t: Trickle) -> None:
    channel = await t.fresh()
    await channel.write(0, b"x")
    began = time.monotonic()
    reader = await channel.get(1)
    try:
        answer = await reader.answer(IDLE + 2 * SWEEP)
    except TimeoutError:
        raise Failed("the channel is still open after 7 minutes", "closed after 5 to 6") from None
    lasted = time.monotonic() - began
    same("status", answer.status, 200)
    same(CLOSED, answer.headers.get(CLOSED), TERMINATED)
    holds(lasted > 0.95 * IDLE, f"closed after {lasted:.0f} s", "not before 5 minutes")
    same("GET next", (await t.ask("GET", channel.at("next"))).status, 404)
