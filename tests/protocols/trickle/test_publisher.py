"""The publisher: against our own server, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from relay.errors import ChannelClosed, PeerError, PeerRefused, PeerTimeout, RelayError
from relay.protocols.trickle import client
from relay.protocols.trickle import publisher as module
from relay.protocols.trickle.client import open_session
from relay.protocols.trickle.publisher import TricklePublisher, send_whole
from relay.protocols.trickle.upload import SegmentWriter
from tests.protocols.trickle.wire import Connection, Site, scripted, serve, until


@pytest.fixture(autouse=True)
def _short_goodbyes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripted servers do not answer a DELETE."""
    monkeypatch.setattr(module, "_CLOSE_WITHIN", 0.1)
    monkeypatch.setattr(client, "_DELETE_WITHIN", 0.5)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serve() as site:
        site.server.create("ch", "video/MP2T")
        yield site


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as session:
        yield session


async def body(site: Site, sequence: int) -> bytes:
    return (await site.ask("GET", f"/t/ch/{sequence}")).body


async def test_the_request_is_on_the_wire_before_the_first_byte(
    session: aiohttp.ClientSession,
) -> None:
    heads: asyncio.Queue[str] = asyncio.Queue()

    async def script(connection: Connection) -> None:
        raw = await connection.reader.readuntil(b"\r\n\r\n")
        heads.put_nowait(raw.decode())
        assert await connection.silent(0.05)
        heads.put_nowait("silent")
        await connection.reader.read()

    async with scripted(script) as url:
        publisher = TricklePublisher(
            session, url, mime="application/json", headers={"X-Key": "k"}, reset=True
        )
        await publisher.open()
        head = await asyncio.wait_for(heads.get(), 2)
        assert head.startswith("POST /t/ch/0 HTTP/1.1\r\n")
        for line in (
            "Content-Type: application/json",
            "Transfer-Encoding: chunked",
            "Lp-Trickle-Reset: 1",
            "X-Key: k",
        ):
            assert f"\r\n{line}\r\n" in head
        assert await asyncio.wait_for(heads.get(), 2) == "silent"
        publisher.begin()
        second = await asyncio.wait_for(heads.get(), 2)
        assert second.startswith("POST /t/ch/1 HTTP/1.1\r\n")
        assert "Lp-Trickle-Reset" not in second
        await publisher.close(delete=False)


async def test_pieces_arrive_one_by_one_and_the_next_segment_is_connected(
    site: Site, session: aiohttp.ClientSession
) -> None:
    publisher = TricklePublisher(session, site.base + "ch")
    await publisher.open()
    for sequence in range(8):
        reader = await site.connect()
        await reader.request("GET", f"/t/ch/{sequence}")
        segment = publisher.begin()
        assert segment.sequence == sequence
        assert segment.write(b"one")
        await reader.head()
        assert await reader.chunk() == b"one"
        assert segment.write(b"")
        assert segment.write(b"two")
        assert await reader.chunk() == b"two"
        assert publisher.in_flight == 1
        segment.end()
        assert not segment.write(b"late")
        assert await reader.chunk() == b""
        await segment.wait_answered()
        await until(lambda: publisher.in_flight == 0)
        await reader.close()
    assert publisher.failed is None
    assert publisher.lost == 0
    await publisher.close()
    assert not site.server.exists("ch")


async def test_connections_are_used_again(site: Site, session: aiohttp.ClientSession) -> None:
    publisher = TricklePublisher(session, site.base + "ch")
    await publisher.open()
    for n in range(12):
        await send_whole(publisher, b"%d" % n)
    connector = session.connector
    assert connector is not None
    idle = sum(len(pool) for pool in connector._conns.values())
    assert idle + len(connector._acquired) <= 3
    await publisher.close()


async def test_what_is_written_before_the_connection_stands_is_sent(
    site: Site, session: aiohttp.ClientSession
) -> None:
    publisher = TricklePublisher(session, site.base + "ch")
    segment = publisher.begin()
    assert segment.write(b"early ")
    assert segment.write(b"bird")
    segment.end()
    await segment.wait_answered()
    assert await body(site, 0) == b"early bird"
    await publisher.close()


async def test_an_empty_segment_is_sent(site: Site, session: aiohttp.ClientSession) -> None:
    publisher = TricklePublisher(session, site.base + "ch")
    await publisher.open()
    segment = publisher.begin()
    segment.end()
    await segment.wait_answered()
    assert site.server.activity("ch").next_write == 1
    await publisher.close()


async def test_a_large_segment(site: Site, session: aiohttp.ClientSession) -> None:
    publisher = TricklePublisher(session, site.base + "ch")
    await publisher.open()
    data = bytes(range(256)) * (4 << 12)
    await send_whole(publisher, data)
    assert await body(site, 0) == data
    await publisher.close()


async def test_an_aborted_segment_is_closed_for_its_readers(
    site: Site, session: aiohttp.ClientSession
) -> None:
    publisher = TricklePublisher(session, site.base + "ch")
    await publisher.open()
    reader = await site.connect()
    await reader.request("GET", "/t/ch/0")
    segment = publisher.begin()
    segment.write(b"half")
    await reader.head()
    assert await reader.chunk() == b"half"
    segment.abort()
    assert await reader.chunk() == b""
    assert not segment.write(b"late")
    with pytest.raises(PeerError):
        await segment.wait_answered()
    assert (publisher.lost, publisher.in_flight, publisher.failed) == (1, 0, None)
    await send_whole(publisher, b"next")
    assert await body(site, 1) == b"next"
    await publisher.close()


async def test_a_peer_that_takes_nothing_loses_the_segment(
    session: aiohttp.ClientSession,
) -> None:
    deleted: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(connection: Connection) -> None:
        head = await connection.reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"DELETE"):
            deleted.put_nowait(head.split()[1])
            await connection.send(OK)
        else:
            connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(30)

    async with scripted(script) as url:
        publisher = TricklePublisher(session, url, max_buffer=1 << 20)
        await publisher.open()
        segment = publisher.begin()
        taken = 0
        while segment.write(bytes(64 << 10)):
            taken += 1
            assert taken < 10_000
            await asyncio.sleep(0)
        assert isinstance(segment.error, PeerError)
        assert segment.error.code == "too_slow"
        assert await asyncio.wait_for(deleted.get(), 2) == b"/t/ch/0"
        await publisher.close(delete=False)


async def test_what_has_left_does_not_count_as_waiting(session: aiohttp.ClientSession) -> None:
    async with serve() as site:
        site.server.create("ch", "video/MP2T")
        publisher = TricklePublisher(session, site.base + "ch", max_buffer=100_000)
        await publisher.open()
        segment = publisher.begin()
        await segment.wait_connected()
        for _ in range(50):
            assert segment.write(bytes(30_000))
            await asyncio.sleep(0.005)
        segment.end()
        await segment.wait_answered()
        await publisher.close()


def test_bytes_that_wait_for_a_connection_are_bounded() -> None:
    async def scenario() -> None:
        lost: list[SegmentWriter] = []
        segment = SegmentWriter(0, 10, on_change=lost.append)
        assert segment.write(b"12345")
        assert not segment.write(b"678901")
        assert lost == [segment]
        assert not segment.write(b"1")

    asyncio.run(scenario())


async def test_an_unknown_channel_ends_the_publisher(
    site: Site, session: aiohttp.ClientSession
) -> None:
    failures: list[RelayError] = []
    publisher = TricklePublisher(session, site.base + "nosuch")
    publisher.on_failure = failures.append
    with contextlib.suppress(ChannelClosed):
        await publisher.open()
    await until(lambda: publisher.failed is not None)
    assert [type(error) for error in failures] == [ChannelClosed]
    with pytest.raises(ChannelClosed):
        publisher.begin()
    await publisher.close()


async def test_a_channel_that_is_deleted_ends_the_publisher_at_once(
    site: Site, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "relay.protocols.trickle.publisher")
    publisher = TricklePublisher(session, site.base + "ch")
    await publisher.open()
    segment = publisher.begin()
    segment.write(b"x")
    await until(lambda: site.server.activity("ch").next_write == 1)
    await site.server.close("ch")
    await until(lambda: publisher.failed is not None)
    assert isinstance(publisher.failed, ChannelClosed)
    assert not segment.write(b"y")
    await publisher.close()
    (line,) = [each for each in caplog.records if "failed: " in each.getMessage()]
    assert line.levelname == "DEBUG"  # streams end so


async def test_a_preconnect_that_the_server_closes_is_replaced(
    site: Site, session: aiohttp.ClientSession
) -> None:
    publisher = TricklePublisher(session, site.base + "ch")
    await publisher.open()
    await site.ask("DELETE", "/t/ch/0")
    await until(lambda: site.server.activity("ch").next_write == 1)
    await asyncio.sleep(0.05)
    await send_whole(publisher, b"x")
    assert await body(site, 1) == b"x"
    assert publisher.lost == 0
    await publisher.close()


async def test_a_segment_that_the_server_closes_is_lost(
    site: Site, session: aiohttp.ClientSession
) -> None:
    publisher = TricklePublisher(session, site.base + "ch")
    await publisher.open()
    segment = publisher.begin()
    await site.ask("DELETE", "/t/ch/0")
    with pytest.raises(PeerError):
        await segment.wait_answered()
    assert publisher.lost == 1
    await publisher.close()


async def test_a_refused_segment_is_lost_and_the_third_in_a_row_ends_it(
    session: aiohttp.ClientSession,
) -> None:
    async def script(connection: Connection) -> None:
        while True:
            head = await connection.reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"POST"):
                await connection.chunk()
                await connection.chunk()
                await connection.send(b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\nwhy\n")
            else:
                await connection.send(OK)

    async with scripted(script) as url:
        publisher = TricklePublisher(session, url)
        await publisher.open()
        for lost in (1, 2, 3):
            with pytest.raises(PeerRefused, match="500 why"):
                await send_whole(publisher, b"x")
            assert publisher.lost == lost
        assert isinstance(publisher.failed, PeerRefused)
        await publisher.close()


async def test_a_server_that_is_not_there(session: aiohttp.ClientSession) -> None:
    probe = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = probe.sockets[0].getsockname()[1]
    probe.close()
    await probe.wait_closed()
    publisher = TricklePublisher(session, f"http://127.0.0.1:{port}/t/ch")
    with pytest.raises(PeerError):
        await publisher.open()
    await publisher.close()


async def test_a_connection_that_breaks_before_the_first_byte_is_made_anew(
    site: Site, session: aiohttp.ClientSession
) -> None:
    cut = 0

    async def script(connection: Connection) -> None:
        nonlocal cut
        await connection.reader.readuntil(b"\r\n\r\n")
        cut += 1
        if cut == 1:
            connection.abort()
            return
        await connection.chunk()
        await connection.chunk()
        await connection.send(OK)

    async with scripted(script) as url:
        publisher = TricklePublisher(session, url)
        await publisher.open()
        await until(lambda: cut == 2)
        await send_whole(publisher, b"x")
        assert publisher.lost == 0
        await publisher.close(delete=False)


async def test_a_connection_that_breaks_later_loses_one_segment(
    session: aiohttp.ClientSession,
) -> None:
    seen: list[bytes] = []

    async def script(connection: Connection) -> None:
        head = await connection.reader.readuntil(b"\r\n\r\n")
        seen.append(b" ".join(head.split()[:2]))
        if seen[-1] == b"POST /t/ch/0":
            await connection.chunk()
            connection.abort()
        elif seen[-1].startswith(b"DELETE"):
            await connection.send(OK)
        else:
            await connection.chunk()
            await connection.chunk()
            await connection.send(OK)

    async with scripted(script) as url:
        publisher = TricklePublisher(session, url)
        await publisher.open()
        segment = publisher.begin()
        segment.write(b"half")
        with pytest.raises(PeerError):
            await segment.wait_answered()
        await send_whole(publisher, b"x")
        await until(lambda: b"DELETE /t/ch/0" in seen)
        assert (publisher.lost, publisher.failed) == (1, None)
        await publisher.close(delete=False)


async def test_no_answer_in_time_loses_the_segment(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ANSWER_WITHIN", 0.05)

    async def script(connection: Connection) -> None:
        await connection.reader.read()

    async with scripted(script) as url:
        publisher = TricklePublisher(session, url)
        await publisher.open()
        with pytest.raises(PeerError, match="not answered"):
            await send_whole(publisher, b"x")
        await publisher.close(delete=False)


async def test_too_many_unanswered_segments_end_the_publisher(
    session: aiohttp.ClientSession,
) -> None:
    async def script(connection: Connection) -> None:
        await connection.reader.read()

    async with scripted(script) as url:
        publisher = TricklePublisher(session, url)
        await publisher.open()
        for _ in range(8):
            publisher.begin().end()
        with pytest.raises(PeerTimeout):
            publisher.begin()
        assert isinstance(publisher.failed, PeerTimeout)
        await publisher.close(delete=False)


async def test_a_redirect_is_not_followed(site: Site, session: aiohttp.ClientSession) -> None:
    async def script(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        target = f"{site.base}ch/0".encode()
        await connection.send(
            b"HTTP/1.1 307 Go\r\nContent-Length: 0\r\nConnection: close\r\nLocation: "
            + target
            + b"\r\n\r\n"
        )

    async with scripted(script) as url:
        publisher = TricklePublisher(session, url)
        with contextlib.suppress(PeerError):
            await publisher.open()
        await until(lambda: publisher.failed is not None)
        assert isinstance(publisher.failed, PeerRefused)
        assert site.server.activity("ch").bytes == 0
        await publisher.close(delete=False)


async def test_closing_leaves_no_empty_segment_to_readers(
    site: Site, session: aiohttp.ClientSession
) -> None:
    publisher = TricklePublisher(session, site.base + "ch")
    await publisher.open()
    segment = publisher.begin()
    segment.write(b"last")
    segment.end()
    reader = await site.connect()
    await reader.request("GET", "/t/ch/1")
    assert await reader.silent()
    await publisher.close()
    answer = await reader.answer()
    assert answer.headers["lp-trickle-closed"] == "terminated"
    with pytest.raises(ChannelClosed):
        publisher.begin()
    await publisher.close()


async def test_leaving_without_deleting_keeps_the_channel(
    site: Site, session: aiohttp.ClientSession
) -> None:
    publisher = TricklePublisher(session, site.base + "ch")
    await publisher.open()
    await send_whole(publisher, b"x")
    await publisher.close(delete=False)
    assert site.server.activity("ch").next_write == 1
    successor = TricklePublisher(session, site.base + "ch", first_sequence=1, reset=True)
    await successor.open()
    await send_whole(successor, b"y")
    assert await body(site, 1) == b"y"
    await successor.close()


async def test_closing_answers_those_who_wait_for_a_segment(
    session: aiohttp.ClientSession,
) -> None:
    async def script(connection: Connection) -> None:
        await connection.reader.read()

    async with scripted(script) as url:
        publisher = TricklePublisher(session, url)
        await publisher.open()
        sending = asyncio.create_task(send_whole(publisher, b"x"))
        await until(lambda: publisher.in_flight == 1)
        await publisher.close(delete=False)
        with pytest.raises(ChannelClosed):
            await asyncio.wait_for(sending, 5)
        assert publisher.in_flight == 0


async def test_aborts_of_the_writer_do_not_end_the_publisher(
    site: Site, session: aiohttp.ClientSession
) -> None:
    publisher = TricklePublisher(session, site.base + "ch")
    await publisher.open()
    for _ in range(5):
        segment = publisher.begin()
        segment.write(b"x")
        segment.abort()
        await until(lambda: publisher.in_flight == 0)
    assert (publisher.lost, publisher.failed) == (5, None)
    await send_whole(publisher, b"y")
    await publisher.close()


async def test_a_session_that_was_closed_fails_the_publisher(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    session = open_session()
    await session.close()
    publisher = TricklePublisher(session, site.base + "ch")
    with pytest.raises(PeerError):
        await publisher.open()
    assert "trickle publisher broke" in caplog.text
    publisher.on_failure = None
    with pytest.raises(PeerError):
        publisher.begin()


async def test_many_publishers_share_a_session(site: Site, session: aiohttp.ClientSession) -> None:
    async def channel(n: int) -> None:
        site.server.create(f"ch{n}", "video/MP2T")
        publisher = TricklePublisher(session, f"{site.base}ch{n}")
        await publisher.open()
        for k in range(4):
            await send_whole(publisher, b"%d %d" % (n, k))
        assert (await site.ask("GET", f"/t/ch{n}/3")).body == b"%d 3" % n
        await publisher.close()

    await asyncio.gather(*(channel(n) for n in range(30)))
