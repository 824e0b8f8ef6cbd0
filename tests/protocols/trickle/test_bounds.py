"""What a server does not wait for, does not keep and does not take."""

from __future__ import annotations

import asyncio
import random
import time

from relay.protocols.trickle.channel import Limits
from tests.protocols.trickle.wire import serve, until

SHORT = Limits(
    segment_bytes=1 << 20,
    channel_bytes=3 << 20,
    readers=2,
    writers=2,
    abandoned=0.05,
    stall=0.1,
    sweep=0.02,
    keepalive=0.02,
)


async def test_a_half_written_segment_whose_writer_vanished_is_closed() -> None:
    async with serve(limits=SHORT) as site:
        site.server.create("ch", "video/MP2T")
        reader, writer = await site.connect(), await site.connect()
        await reader.request("GET", "/t/ch/0")
        await writer.post("/t/ch/0")
        await writer.piece(b"half")
        await reader.head()
        assert await reader.chunk() == b"half"
        writer.abort()
        assert await reader.chunk() == b""


async def test_a_writer_that_stalls_is_answered() -> None:
    async with serve(limits=SHORT) as site:
        site.server.create("ch", "video/MP2T")
        writer = await site.connect()
        await writer.post("/t/ch/0")
        await writer.piece(b"half")
        answer = await writer.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert (await site.ask("GET", "/t/ch/0")).body == b"half"


async def test_a_preconnect_may_wait_for_as_long_as_it_likes() -> None:
    async with serve(limits=SHORT) as site:
        site.server.create("ch", "video/MP2T")
        writer = await site.connect()
        await writer.post("/t/ch/0")
        await asyncio.sleep(4 * SHORT.stall)
        await writer.piece(b"late")
        await writer.end()
        answer = await writer.answer()
        assert answer.status == 200
        assert answer.interim >= 5


async def test_a_segment_without_end_is_cut() -> None:
    async with serve(limits=SHORT) as site:
        site.server.create("ch", "video/MP2T")
        reader, writer = await site.connect(), await site.connect()
        await reader.request("GET", "/t/ch/0")
        await writer.request("POST", "/t/ch/0", "Content-Length: 10000000000")
        for _ in range(5):
            await writer.send(b"x" * (256 << 10))
        assert (await writer.answer()).status == 413
        assert len((await reader.answer()).body) <= 1 << 20
        assert (await site.ask("POST", "/t/ch/1", body=b"y")).status == 200


async def test_more_readers_and_writers_than_allowed() -> None:
    async with serve(limits=SHORT) as site:
        site.server.create("ch", "video/MP2T")
        for _ in range(2):
            reader, writer = await site.connect(), await site.connect()
            await reader.request("GET", "/t/ch/0")
            await writer.post("/t/ch/0")
        await until(lambda: site.server.activity("ch").readers == 2)
        assert (await site.ask("GET", "/t/ch/0")).status == 503
        assert (await site.ask("POST", "/t/ch/0", body=b"x")).status == 503


async def test_a_waiting_reader_that_left_is_forgotten() -> None:
    async with serve(limits=SHORT) as site:
        site.server.create("ch", "video/MP2T")
        reader = await site.connect()
        await reader.request("GET", "/t/ch/0")
        await until(lambda: site.server.activity("ch").readers == 1)
        reader.abort()
        await until(lambda: site.server.activity("ch").readers == 0)


async def test_a_reader_that_takes_nothing_hurts_only_itself() -> None:
    async with serve(limits=Limits(stall=0.2, sweep=0.02)) as site:
        site.server.create("ch", "video/MP2T")
        stuck, reader, writer = [await site.connect() for _ in range(3)]
        stuck.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for connection in (stuck, reader):
            await connection.request("GET", "/t/ch/0")
        await until(lambda: site.server.activity("ch").readers == 2)
        data = bytes(1 << 20)
        await writer.request("POST", "/t/ch/0", f"Content-Length: {24 * len(data)}")
        answer = asyncio.create_task(reader.answer())
        for _ in range(24):
            await writer.send(data)
        assert len((await answer).body) == 24 * len(data)
        assert (await writer.answer()).status == 200
        await until(lambda: site.server.activity("ch").readers == 0)


async def test_a_slow_reader_gets_every_byte() -> None:
    async with serve() as site:
        site.server.create("ch", "video/MP2T")
        slow, writer = await site.connect(), await site.connect()
        await slow.request("GET", "/t/ch/0")
        await writer.post("/t/ch/0")
        data = b""
        for n in range(200):
            piece = bytes([n]) * 40_000
            data += piece
            await writer.piece(piece)
        await writer.end()
        assert (await writer.answer()).status == 200
        assert (await slow.answer()).body == data


async def test_idle_channels_are_swept_and_written_ones_are_not() -> None:
    async with serve() as site:
        site.server.create("ch", "video/MP2T")
        reader = await site.connect()
        await reader.request("GET", "/t/ch/0")
        await until(lambda: site.server.activity("ch").readers == 1)
        await site.ask("POST", "/t/ch/0", body=b"x")
        now = time.monotonic()
        site.server.sweep(now + 299)
        assert site.server.exists("ch")
        waiting = await site.connect()
        await waiting.request("GET", "/t/ch/1")
        assert await waiting.silent()
        site.server.sweep(now + 301)
        assert not site.server.exists("ch")
        assert (await waiting.answer()).headers["lp-trickle-closed"] == "terminated"


async def test_nothing_is_left_of_peers_that_vanish_at_any_moment() -> None:
    dice = random.Random(7)
    async with serve(limits=Limits(abandoned=0.02, sweep=0.02, writers=100)) as site:
        server = site.server
        server.create("ch", "video/MP2T")

        async def vanish(sequence: int) -> None:
            connection = await site.connect()
            if dice.random() < 0.5:
                await connection.request("GET", f"/t/ch/{sequence}")
            else:
                await connection.post(f"/t/ch/{sequence}")
                for _ in range(dice.randrange(4)):
                    await connection.piece(bytes(dice.randrange(1, 100_000)))
                if dice.random() < 0.3:
                    await connection.end()
            await asyncio.sleep(dice.random() * 0.05)
            connection.abort()

        for _ in range(4):
            latest = server.activity("ch").next_write
            await asyncio.gather(*(vanish(latest + dice.randrange(3)) for _ in range(20)))
        await until(lambda: not server._deliveries and not server._intakes)
        assert server.activity("ch").readers == 0
        assert server._budget.used > 0
        latest = server.activity("ch").next_write
        assert (await site.ask("POST", "/t/ch/-1", body=b"fine")).status == 200
        assert (await site.ask("GET", f"/t/ch/{latest}")).body.endswith(b"fine")
        await server.close("ch")
        assert server._budget.used == 0


async def test_segments_that_come_faster_than_any_stream_needs_are_refused() -> None:
    limits = Limits(segment_rate=20.0, segment_peak=10.0)
    async with serve(limits=limits) as site:
        site.server.create("ch", "video/MP2T")
        site.server.create("other", "video/MP2T")
        seen = [
            (await site.ask("POST", f"/t/ch/{n}", body=b"x" if n % 2 else b"")) for n in range(40)
        ]
        refused = [answer for answer in seen if answer.status != 200]
        assert {answer.status for answer in refused} == {429}
        assert refused[0].headers["retry-after"] == "1"
        # The flood costs nobody else, and its channel takes more after a rest.
        assert (await site.ask("POST", "/t/other/0", body=b"x")).status == 200
        await asyncio.sleep(0.2)
        assert (await site.ask("POST", "/t/ch/-1", body=b"x")).status == 200


async def test_a_writer_that_is_too_fast_is_held_back_and_loses_nothing() -> None:
    limits = Limits(byte_rate=1 << 20, byte_peak=64 << 10)
    async with serve(limits=limits) as site:
        site.server.create("ch", "video/MP2T")
        before = time.monotonic()
        data = bytes(range(256)) * 2048
        assert (await site.ask("POST", "/t/ch/0", body=data)).status == 200
        assert time.monotonic() - before > 0.3
        assert (await site.ask("GET", "/t/ch/0")).body == data
