"""The subscriber: against our own server, and against servers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from relay.errors import PeerError, PeerRefused, TooLarge
from relay.protocols.trickle import subscriber as module
from relay.protocols.trickle.client import open_session
from relay.protocols.trickle.publisher import TricklePublisher, send_whole
from relay.protocols.trickle.reading import SegmentReader
from relay.protocols.trickle.subscriber import TrickleSubscriber
from tests.protocols.trickle.wire import Connection, Site, scripted, serve, until


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serve() as site:
        site.server.create("ch", "video/MP2T")
        yield site


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as session:
        yield session


async def following(subscriber: TrickleSubscriber) -> SegmentReader:
    async with asyncio.timeout(5):
        return await anext(aiter(subscriber))


def answer(sequence: int, body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Lp-Trickle-Seq: {sequence}", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


async def asked(connection: Connection) -> str:
    head = await connection.reader.readuntil(b"\r\n\r\n")
    return head.split()[1].decode().rsplit("/", 1)[1]


async def test_pieces_come_as_they_are_written_and_the_next_segment_is_asked_for(
    site: Site, session: aiohttp.ClientSession
) -> None:
    publisher = TricklePublisher(session, site.base + "ch")
    subscriber = TrickleSubscriber(session, site.base + "ch")
    await publisher.open()
    opening = asyncio.create_task(following(subscriber))
    await until(lambda: site.server.activity("ch").readers == 1)
    for sequence in range(7):
        writer = publisher.begin()
        writer.write(b"one")
        segment = await opening
        assert (segment.sequence, segment.mime) == (sequence, "video/MP2T")
        assert await anext(segment) == b"one"
        await until(lambda: site.server.activity("ch").readers == 2)
        writer.write(b"two")
        assert await anext(segment) == b"two"
        writer.end()
        assert [data async for data in segment] == []
        assert not segment.truncated
        opening = asyncio.create_task(following(subscriber))
    await publisher.close()
    with pytest.raises(StopAsyncIteration):
        await anext(aiter(subscriber))
    opening.cancel()
    await asyncio.wait({opening})
    await subscriber.close()


async def test_all_of_a_channel_is_read_and_its_end_ends_the_loop(
    site: Site, session: aiohttp.ClientSession
) -> None:
    subscriber = TrickleSubscriber(session, site.base + "ch", start=0)
    got: list[bytes] = []

    async def read() -> None:
        async for segment in subscriber:
            got.extend([await segment.read(1 << 20)])

    reading = asyncio.create_task(read())
    await until(lambda: site.server.activity("ch").readers > 0)
    publisher = TricklePublisher(session, site.base + "ch")
    await publisher.open()
    sent = [bytes([n]) * (n * 1000 + 1) for n in range(30)]
    for number, data in enumerate(sent):
        # Who falls behind what is kept loses segments, by the protocol: not what is asked here.
        await until(lambda at=number: len(got) >= at - 2)  # type: ignore[misc]
        await send_whole(publisher, data)
    await until(lambda: len(got) == len(sent))
    await publisher.close()
    async with asyncio.timeout(5):
        await reading
    assert got == sent


async def test_connections_are_used_again(site: Site, session: aiohttp.ClientSession) -> None:
    subscriber = TrickleSubscriber(session, site.base + "ch", start=0)
    for n in range(12):
        await site.ask("POST", f"/t/ch/{n}", body=b"x")
        assert await (await following(subscriber)).read(10) == b"x"
    connector = session.connector
    assert connector is not None
    assert sum(len(pool) for pool in connector._conns.values()) + len(connector._acquired) <= 3
    await subscriber.close()


async def test_starting_at_the_current_segment(site: Site, session: aiohttp.ClientSession) -> None:
    for n in range(3):
        await site.ask("POST", f"/t/ch/{n}", body=b"%d" % n)
    subscriber = TrickleSubscriber(session, site.base + "ch", start=-2)
    assert await (await following(subscriber)).read(10) == b"2"
    await subscriber.close()


async def test_a_reader_that_is_behind_goes_on_at_the_newest(
    site: Site, session: aiohttp.ClientSession
) -> None:
    for n in range(9):
        await site.ask("POST", f"/t/ch/{n}", body=b"%d" % n)
    subscriber = TrickleSubscriber(session, site.base + "ch", start=1)
    opening = asyncio.create_task(following(subscriber))
    await until(lambda: site.server.activity("ch").readers == 1)
    await site.ask("POST", "/t/ch/9", body=b"9")
    segment = await opening
    assert (segment.sequence, await segment.read(10)) == (9, b"9")
    await subscriber.close()


async def test_a_reader_that_is_behind_may_go_on_at_the_newest_that_has_begun(
    site: Site, session: aiohttp.ClientSession
) -> None:
    for n in range(9):
        await site.ask("POST", f"/t/ch/{n}", body=b"%d" % n)
    subscriber = TrickleSubscriber(session, site.base + "ch", start=1, keep_newest=True)
    segment = await following(subscriber)
    assert (segment.sequence, await segment.read(10)) == (8, b"8")
    opening = asyncio.create_task(following(subscriber))
    await site.ask("POST", "/t/ch/9", body=b"9")
    segment = await opening
    assert (segment.sequence, await segment.read(10)) == (9, b"9")
    await subscriber.close()


async def test_a_publisher_that_starts_again_is_followed(
    site: Site, session: aiohttp.ClientSession
) -> None:
    for n in range(8):
        await site.ask("POST", f"/t/ch/{n}", body=b"old")
    subscriber = TrickleSubscriber(session, site.base + "ch", start=7)
    assert await (await following(subscriber)).read(10) == b"old"
    # The slot in which the subscriber waits for 8 is taken by 3.
    for n in range(4):
        await site.ask("POST", f"/t/ch/{n}", body=b"new")
    opening = asyncio.create_task(following(subscriber))
    await asyncio.sleep(0.4)
    await site.ask("POST", "/t/ch/4", body=b"new")
    segment = await opening
    assert (segment.sequence, await segment.read(10)) == (4, b"new")
    await subscriber.close()


async def test_empty_segments_are_skipped(site: Site, session: aiohttp.ClientSession) -> None:
    for n in range(3):
        await site.ask("POST", f"/t/ch/{n}", "Content-Length: 0")
    await site.ask("POST", "/t/ch/3", body=b"x")
    subscriber = TrickleSubscriber(session, site.base + "ch", start=0)
    segment = await following(subscriber)
    assert (segment.sequence, await segment.read(10)) == (3, b"x")
    await subscriber.close()


async def test_an_unknown_channel_has_no_segments(
    site: Site, session: aiohttp.ClientSession
) -> None:
    subscriber = TrickleSubscriber(session, site.base + "nosuch")
    assert [segment async for segment in subscriber] == []
    assert [segment async for segment in subscriber] == []


async def test_a_channel_deleted_during_a_read(site: Site, session: aiohttp.ClientSession) -> None:
    subscriber = TrickleSubscriber(session, site.base + "ch", start=0)
    writer = await site.connect()
    await writer.post("/t/ch/0")
    await writer.piece(b"half")
    segment = await following(subscriber)
    assert await anext(segment) == b"half"
    await site.server.close("ch")
    assert [data async for data in segment] == []
    assert [left async for left in subscriber] == []


async def test_leaving_a_segment_early_goes_on_with_the_next(
    site: Site, session: aiohttp.ClientSession
) -> None:
    subscriber = TrickleSubscriber(session, site.base + "ch", start=0)
    writer = await site.connect()
    await writer.post("/t/ch/0")
    await writer.piece(b"dull")
    dull = await following(subscriber)
    await site.ask("POST", "/t/ch/1", body=b"new")
    segment = await following(subscriber)
    assert dull.truncated
    assert (segment.sequence, await segment.read(10)) == (1, b"new")
    await subscriber.close()


async def test_a_stalled_segment_is_left_once_a_newer_one_is_there(
    site: Site, session: aiohttp.ClientSession
) -> None:
    subscriber = TrickleSubscriber(session, site.base + "ch", start=0, stall_timeout=0.05)
    writer = await site.connect()
    await writer.post("/t/ch/0")
    await writer.piece(b"half")
    segment = await following(subscriber)
    assert await anext(segment) == b"half"
    rest = asyncio.create_task(anext(segment, b""))
    await asyncio.sleep(0.15)
    assert not rest.done()
    await site.ask("POST", "/t/ch/1", body=b"new")
    assert await asyncio.wait_for(rest, 5) == b""
    assert segment.truncated
    assert await (await following(subscriber)).read(10) == b"new"
    await subscriber.close()


async def test_a_pause_in_the_newest_segment_loses_nothing(
    site: Site, session: aiohttp.ClientSession
) -> None:
    subscriber = TrickleSubscriber(session, site.base + "ch", start=0, stall_timeout=0.03)
    writer = await site.connect()
    await writer.post("/t/ch/0")
    await writer.piece(b"one ")
    segment = await following(subscriber)
    whole = asyncio.create_task(segment.read(100))
    await asyncio.sleep(0.15)
    await writer.piece(b"two")
    await writer.end()
    assert await whole == b"one two"
    await subscriber.close()


async def test_segments_over_a_bound(site: Site, session: aiohttp.ClientSession) -> None:
    subscriber = TrickleSubscriber(session, site.base + "ch", start=0, max_segment=1000)
    for n, size in enumerate((1001, 1000, 1000)):
        await site.ask("POST", f"/t/ch/{n}", body=b"x" * size)
    with pytest.raises(PeerError) as error:
        await (await following(subscriber)).read(10_000)
    assert error.value.code == "segment_too_large"
    with pytest.raises(TooLarge):
        await (await following(subscriber)).read(999)
    assert len(await (await following(subscriber)).read(1000)) == 1000
    await subscriber.close()


async def test_a_get_without_answer_is_asked_anew(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REISSUE", 0.05)
    numbers: list[str] = []

    async def script(connection: Connection) -> None:
        numbers.append(await asked(connection))
        if len(numbers) < 3:
            await connection.reader.read()
        await connection.send(answer(4, b"x"))
        await connection.reader.read()

    async with scripted(script) as url:
        subscriber = TrickleSubscriber(session, url, start=4)
        assert await (await following(subscriber)).read(10) == b"x"
        assert numbers[:3] == ["4", "4", "4"]
        await subscriber.close()


async def test_failures_are_retried_a_few_times(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_DELAY", 0.01)
    count = 0

    async def script(connection: Connection) -> None:
        nonlocal count
        await asked(connection)
        count += 1
        if count == 1:
            connection.abort()
        elif count == 2:
            await connection.send(answer(0, b"no", status="500 No"))
        elif count == 3:
            await connection.send(answer(0, b"x"))
        else:
            await connection.send(answer(0, b"down", status="502 No"))

    async with scripted(script) as url:
        subscriber = TrickleSubscriber(session, url, start=0)
        assert await (await following(subscriber)).read(10) == b"x"
        with pytest.raises(PeerRefused, match="502 down"):
            await following(subscriber)
        assert count == 3 + 6
        await subscriber.close()


async def test_a_server_that_has_nothing_of_what_it_promises(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AHEAD_DELAY", 0.001)

    async def script(connection: Connection) -> None:
        while True:
            await asked(connection)
            await connection.send(answer(0, b"", "Lp-Trickle-Latest: 3", status="470 no"))

    async with scripted(script) as url:
        subscriber = TrickleSubscriber(session, url, start=0)
        with pytest.raises(PeerRefused):
            await following(subscriber)
        await subscriber.close()


async def test_headers_that_make_no_sense(session: aiohttp.ClientSession) -> None:
    answers = [
        b"HTTP/1.1 470 x\r\nLp-Trickle-Latest: many\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nLp-Trickle-Seq: -7\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nLp-Trickle-Seq: 99999999999999999999\r\nContent-Length: 1\r\n\r\nb",
        b"HTTP/1.1 200 OK\r\nLp-Trickle-Closed: terminated\r\nContent-Length: 0\r\n\r\n",
    ]
    numbers: list[str] = []

    async def script(connection: Connection) -> None:
        while answers:
            numbers.append(await asked(connection))
            await connection.send(answers.pop(0))

    async with scripted(script) as url:
        subscriber = TrickleSubscriber(session, url, start=5)
        first = await following(subscriber)
        assert (first.sequence, await first.read(10)) == (None, b"a")
        second = await following(subscriber)
        assert (second.sequence, await second.read(10)) == (None, b"b")
        assert [segment async for segment in subscriber] == []
        assert numbers == ["5", "-1", "-1", "-1"]


async def test_a_segment_that_breaks_off(session: aiohttp.ClientSession) -> None:
    async def script(connection: Connection) -> None:
        number = await asked(connection)
        if number == "0":
            head = b"HTTP/1.1 200 OK\r\nLp-Trickle-Seq: 0\r\nTransfer-Encoding: chunked\r\n\r\n"
            await connection.send(head + b"4\r\nhalf\r\n")
            await asyncio.sleep(0.02)
            connection.abort()
        else:
            await connection.send(answer(1, b"whole"))

    async with scripted(script) as url:
        subscriber = TrickleSubscriber(session, url, start=0)
        segment = await following(subscriber)
        assert await segment.read(10) == b"half"
        assert segment.truncated
        assert await (await following(subscriber)).read(10) == b"whole"
        await subscriber.close()


async def test_a_redirect_is_not_followed(
    site: Site, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_DELAY", 0.001)
    await site.ask("POST", "/t/ch/0", body=b"secret")

    async def script(connection: Connection) -> None:
        await asked(connection)
        target = f"Location: {site.base}ch/0"
        await connection.send(answer(0, b"", target, "Connection: close", status="302 Go"))

    async with scripted(script) as url:
        subscriber = TrickleSubscriber(session, url, start=0)
        with pytest.raises(PeerRefused):
            await following(subscriber)
        await subscriber.close()


async def test_closing_ends_an_iteration_that_waits(
    site: Site, session: aiohttp.ClientSession
) -> None:
    subscriber = TrickleSubscriber(session, site.base + "ch")

    async def read() -> int:
        return len([segment async for segment in subscriber])

    reading = asyncio.create_task(read())
    await until(lambda: site.server.activity("ch").readers == 1)
    await subscriber.close()
    assert await asyncio.wait_for(reading, 5) == 0
    await subscriber.close()
