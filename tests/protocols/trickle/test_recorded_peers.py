"""Recorded trickle exchanges of stock nodes: a stock gateway's requests against our server,
and a stock orchestrator's answers to our publisher and subscriber."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.protocols.trickle.client import open_session
from relay.protocols.trickle.publisher import TricklePublisher, send_whole
from relay.protocols.trickle.subscriber import TrickleSubscriber
from tests.protocols.trickle.wire import Answer, Connection, Site, serve
from tests.rpc.captured import Piece, transcript

EVENTS = "99df2831-events"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serve() as site:
        yield site


def ours(piece: Piece) -> bytes:
    return piece.data.replace(b"/ai/trickle/", b"/t/")


def exchanges(name: str) -> list[tuple[Piece, bytes]]:
    """Each request with all that came back for it."""
    found: list[tuple[Piece, bytes]] = []
    for piece in transcript(name):
        if piece.asked:
            found.append((piece, b""))
        else:
            request, before = found[-1]
            found[-1] = (request, before + piece.data)
    return found


async def read(data: bytes) -> Answer:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await Connection(reader, None).answer()  # type: ignore[arg-type]


async def test_a_stock_gateways_event_reader_is_answered_as_recorded(site: Site) -> None:
    site.server.create(EVENTS, "application/json")
    # The first event came before the gateway read, and so is lost to it.
    assert (await site.ask("POST", f"/t/{EVENTS}/0", body=b"{}")).status == 200
    for connection in ("conn1", "conn2"):
        wire = await site.connect()
        for request, answer in exchanges(f"trickle/stock-gateway/get-events.{connection}.txt"):
            theirs = await read(answer)
            await wire.send(ours(request))
            sequence = theirs.headers["lp-trickle-seq"]
            # The second connection asks once more for what the first has got.
            waits = connection == "conn1" or sequence != "3"
            if waits:
                assert await wire.silent()
            if "lp-trickle-closed" in theirs.headers:
                await site.server.close(EVENTS)
            elif waits:
                await site.ask("POST", f"/t/{EVENTS}/{sequence}", body=theirs.body)
            mine = await wire.answer()
            assert mine.status_line == theirs.status_line
            assert mine.body == theirs.body
            for name in ("lp-trickle-seq", "lp-trickle-closed"):
                assert mine.headers.get(name) == theirs.headers.get(name)
            if mine.body:
                assert mine.headers["content-type"] == theirs.headers["content-type"]


async def test_a_stock_gateways_goodbye_is_answered_as_recorded(site: Site) -> None:
    site.server.create("99df2831-control", "application/json")
    for channel, status in (("control", 200), ("input", 400)):
        # The input was gone already, as the server had closed it with the control channel.
        ((request, answer),) = exchanges(f"trickle/stock-gateway/delete-{channel}.conn1.txt")
        wire = await site.connect()
        await wire.send(ours(request))
        mine, theirs = await wire.answer(), await read(answer)
        assert (mine.status, mine.body) == (theirs.status, theirs.body)
        assert mine.status == status


async def test_a_channel_is_not_made_for_strangers_as_on_a_stock_orchestrator(site: Site) -> None:
    ((request, answer),) = exchanges("trickle/stock-orchestrator/create-refused.txt")
    wire = await site.connect()
    await wire.send(ours(request))
    mine, theirs = await wire.answer(), await read(answer)
    assert (mine.status_line, mine.body) == (theirs.status_line, theirs.body)


@asynccontextmanager
async def replaying(name: str) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives a recorded one's answers, whatever is asked, and keeps that."""
    answers = [answer for _, answer in exchanges(name)]
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = b""
                if b"chunked" in head:
                    body = await reader.readuntil(b"0\r\n\r\n")
                asked.append(head + body)
                if answers:
                    writer.write(answers.pop(0))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()


async def test_our_subscriber_reads_what_a_stock_orchestrator_answers() -> None:
    name = "trickle/stock-orchestrator/get-events.conn1.txt"
    ((_, answer),) = exchanges(name)
    async with replaying(name) as (base, asked), open_session() as session:
        subscriber = TrickleSubscriber(session, f"{base}/ai/trickle/8a27b5fa-events")
        segment = await anext(aiter(subscriber))
        assert segment.sequence == 1
        body = await segment.read(1 << 16)
        assert body == (await read(answer)).body
        assert json.loads(body)["event"]["state"] == "ONLINE"
        assert asked[0].startswith(b"GET /ai/trickle/8a27b5fa-events/-1 HTTP/1.1\r\n")
        await subscriber.close()


async def test_our_publisher_takes_what_a_stock_orchestrator_answers() -> None:
    name = "trickle/stock-orchestrator/post-control.conn1.txt"
    requests = [piece.data.partition(b"\r\n\r\n")[2] for piece, _ in exchanges(name)]
    async with replaying(name) as (base, asked), open_session() as session:
        publisher = TricklePublisher(session, f"{base}/ai/trickle/8a27b5fa-control")
        for body in requests:
            await send_whole(publisher, body)
        posts = [request for request in asked if request.startswith(b"POST")]
        for number, body in enumerate(requests):
            (mine,) = [post for post in posts if f"-control/{number} ".encode() in post]
            assert b"\r\n" + body + b"\r\n" in mine
        await publisher.close()
